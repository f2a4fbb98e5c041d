// The HIP runtime of ROCm 6 to 10, opened at run time. Values of its enums are those of
// hip/hip_runtime_api.h, which has kept them since ROCm 5.
#include <string>
#include <type_traits>

#include "core/error.hpp"
#include "gpu/driver.hpp"
#include "gpu/shared_library.hpp"

namespace rocmforge::gpu {
namespace {

constexpr int kSuccess = 0, kOutOfMemory = 2, kNoDevice = 100, kNotFound = 500, kNotReady = 600;
constexpr int kHostToDevice = 1, kDeviceToHost = 2, kDeviceToDevice = 3;  // hipMemcpyKind
constexpr unsigned kNonBlockingStream = 1, kEventWithoutTiming = 2;
constexpr int kThreadLocalCapture = 1;

int number_of(Attribute a) {  // hipDeviceAttribute_t
  switch (a) {
    case Attribute::kIntegrated:
      return 16;
    case Attribute::kRunTimeLimit:
      return 18;
    case Attribute::kL2Bytes:
      return 19;
    case Attribute::kCapabilityMajor:
      return 23;
    case Attribute::kMaxBlockX:
      return 26;
    case Attribute::kMaxBlockY:
      return 27;
    case Attribute::kMaxBlockZ:
      return 28;
    case Attribute::kMaxGridX:
      return 29;
    case Attribute::kMaxGridY:
      return 30;
    case Attribute::kMaxGridZ:
      return 31;
    case Attribute::kMaxThreadsPerBlock:
      return 56;
    case Attribute::kCapabilityMinor:
      return 61;
    case Attribute::kNumMultiprocessors:
      return 63;
    case Attribute::kPciBus:
      return 67;
    case Attribute::kPciDevice:
      return 68;
    case Attribute::kPciDomain:
      return 69;
    case Attribute::kMaxSharedBytes:
      return 74;
    case Attribute::kWaveSize:
      return 87;
  }
  throw Error(ErrorCode::kInternal, "an attribute without a HIP number");
}

struct Api {
  int (*init)(unsigned);
  int (*get_device_count)(int*);
  int (*device_get_name)(char*, int, int);
  int (*device_get_attribute)(int*, int, int);
  int (*set_device)(int);
  int (*mem_get_info)(std::size_t*, std::size_t*);
  int (*malloc)(void**, std::size_t);
  int (*free)(void*);
  int (*host_malloc)(void**, std::size_t, unsigned);
  int (*host_free)(void*);
  int (*memcpy_async)(void*, const void*, std::size_t, int, Stream);
  int (*memset_async)(void*, int, std::size_t, Stream);
  int (*stream_create)(Stream*, unsigned);
  int (*stream_destroy)(Stream);
  int (*stream_query)(Stream);
  int (*stream_synchronize)(Stream);
  int (*stream_wait_event)(Stream, Event, unsigned);
  int (*event_create)(Event*, unsigned);
  int (*event_destroy)(Event);
  int (*event_record)(Event, Stream);
  int (*event_query)(Event);
  int (*event_synchronize)(Event);
  int (*event_elapsed)(float*, Event, Event);
  int (*module_load)(Module*, const void*);
  int (*module_unload)(Module);
  int (*module_function)(Function*, Module, const char*);
  int (*launch_kernel)(Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                       unsigned, Stream, void**, void**);
  int (*begin_capture)(Stream, int);
  int (*end_capture)(Stream, void**);
  int (*graph_instantiate)(Graph*, void*, unsigned long long);
  int (*graph_launch)(Graph, Stream);
  int (*graph_exec_destroy)(Graph);
  int (*graph_destroy)(void*);
  const char* (*error_string)(int);
};

Api load_api() {
  static const SharedLibrary library(
      "HIP",
      {"libamdhip64.so", "libamdhip64.so.10", "libamdhip64.so.9", "libamdhip64.so.8",
       "libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "/opt/rocm/lib/libamdhip64.so"});
  Api api{};
  const auto load = [&](auto*& function, const char* symbol) {
    function =
        reinterpret_cast<std::remove_reference_t<decltype(function)>>(library.symbol(symbol));
  };
  load(api.init, "hipInit");
  load(api.get_device_count, "hipGetDeviceCount");
  load(api.device_get_name, "hipDeviceGetName");
  load(api.device_get_attribute, "hipDeviceGetAttribute");
  load(api.set_device, "hipSetDevice");
  load(api.mem_get_info, "hipMemGetInfo");
  load(api.malloc, "hipMalloc");
  load(api.free, "hipFree");
  load(api.host_malloc, "hipHostMalloc");
  load(api.host_free, "hipHostFree");
  load(api.memcpy_async, "hipMemcpyAsync");
  load(api.memset_async, "hipMemsetAsync");
  load(api.stream_create, "hipStreamCreateWithFlags");
  load(api.stream_destroy, "hipStreamDestroy");
  load(api.stream_query, "hipStreamQuery");
  load(api.stream_synchronize, "hipStreamSynchronize");
  load(api.stream_wait_event, "hipStreamWaitEvent");
  load(api.event_create, "hipEventCreateWithFlags");
  load(api.event_destroy, "hipEventDestroy");
  load(api.event_record, "hipEventRecord");
  load(api.event_query, "hipEventQuery");
  load(api.event_synchronize, "hipEventSynchronize");
  load(api.event_elapsed, "hipEventElapsedTime");
  load(api.module_load, "hipModuleLoadData");
  load(api.module_unload, "hipModuleUnload");
  load(api.module_function, "hipModuleGetFunction");
  load(api.launch_kernel, "hipModuleLaunchKernel");
  load(api.begin_capture, "hipStreamBeginCapture");
  load(api.end_capture, "hipStreamEndCapture");
  load(api.graph_instantiate, "hipGraphInstantiateWithFlags");
  load(api.graph_launch, "hipGraphLaunch");
  load(api.graph_exec_destroy, "hipGraphExecDestroy");
  load(api.graph_destroy, "hipGraphDestroy");
  load(api.error_string, "hipGetErrorString");
  return api;
}

class HipDriver final : public Driver {
 public:
  HipDriver() : api_(load_api()) {
    const int result = api_.init(0);
    if (result != kNoDevice) check_result(result, "hipInit");
  }

  std::string_view name() const override { return "hip"; }

  int device_count() override {
    int count = 0;
    const int result = api_.get_device_count(&count);
    if (result == kNoDevice) return 0;
    check_result(result, "hipGetDeviceCount");
    return count;
  }

  std::string device_name(int device) override {
    char text[256] = {};
    check_result(api_.device_get_name(text, sizeof(text) - 1, device), "hipDeviceGetName");
    return text;
  }

  std::int64_t attribute(int device, Attribute a) override {
    int value = 0;
    check_result(api_.device_get_attribute(&value, number_of(a), device), "hipDeviceGetAttribute");
    return value;
  }

  void make_current(int device) override { check_result(api_.set_device(device), "hipSetDevice"); }

  MemoryInfo memory() override {
    std::size_t free_bytes = 0, total_bytes = 0;
    check_result(api_.mem_get_info(&free_bytes, &total_bytes), "hipMemGetInfo");
    return {static_cast<std::int64_t>(free_bytes), static_cast<std::int64_t>(total_bytes)};
  }

  void* allocate(std::int64_t bytes) override {
    void* p = nullptr;
    check_allocation(api_.malloc(&p, static_cast<std::size_t>(bytes)), bytes, "device");
    return p;
  }
  void free(void* p) override { check_result(api_.free(p), "hipFree"); }
  void* allocate_pinned(std::int64_t bytes) override {
    void* p = nullptr;
    check_allocation(api_.host_malloc(&p, static_cast<std::size_t>(bytes), 0), bytes,
                     "pinned host");
    return p;
  }
  void free_pinned(void* p) override { check_result(api_.host_free(p), "hipHostFree"); }

  void copy_to_device(void* to, const void* from, std::int64_t bytes, Stream s) override {
    copy(to, from, bytes, kHostToDevice, s);
  }
  void copy_to_host(void* to, const void* from, std::int64_t bytes, Stream s) override {
    copy(to, from, bytes, kDeviceToHost, s);
  }
  void copy_on_device(void* to, const void* from, std::int64_t bytes, Stream s) override {
    copy(to, from, bytes, kDeviceToDevice, s);
  }
  void fill(void* to, std::uint8_t value, std::int64_t bytes, Stream s) override {
    check_result(api_.memset_async(to, value, static_cast<std::size_t>(bytes), s),
                 "hipMemsetAsync");
  }
  void launch(Function f, const LaunchShape& shape, const void* args, std::size_t,
              Stream s) override {
    void* params[] = {const_cast<void*>(args)};
    const auto& [grid, block, shared] = shape;
    check_result(api_.launch_kernel(f, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, s,
                                    params, nullptr),
                 "hipModuleLaunchKernel");
  }

  Stream create_stream() override {
    Stream s = nullptr;
    check_result(api_.stream_create(&s, kNonBlockingStream), "hipStreamCreateWithFlags");
    return s;
  }
  void destroy(Stream s) override { check_result(api_.stream_destroy(s), "hipStreamDestroy"); }
  bool done(Stream s) override { return is_ready(api_.stream_query(s), "hipStreamQuery"); }
  void synchronize(Stream s) override {
    check_result(api_.stream_synchronize(s), "hipStreamSynchronize");
  }
  Event create_event(bool timed) override {
    Event e = nullptr;
    check_result(api_.event_create(&e, timed ? 0 : kEventWithoutTiming), "hipEventCreateWithFlags");
    return e;
  }
  void destroy(Event e) override { check_result(api_.event_destroy(e), "hipEventDestroy"); }
  void record(Event e, Stream s) override {
    check_result(api_.event_record(e, s), "hipEventRecord");
  }
  void wait(Stream s, Event e) override {
    check_result(api_.stream_wait_event(s, e, 0), "hipStreamWaitEvent");
  }
  bool done(Event e) override { return is_ready(api_.event_query(e), "hipEventQuery"); }
  void synchronize(Event e) override {
    check_result(api_.event_synchronize(e), "hipEventSynchronize");
  }
  float elapsed_ms(Event from, Event to) override {
    float ms = 0.0f;
    check_result(api_.event_elapsed(&ms, from, to), "hipEventElapsedTime");
    return ms;
  }

  Module load_module(const void* image) override {
    Module m = nullptr;
    check_result(api_.module_load(&m, image), "hipModuleLoadData");
    return m;
  }
  void unload(Module m) override { check_result(api_.module_unload(m), "hipModuleUnload"); }
  Function function(Module m, const std::string& kernel) override {
    Function f = nullptr;
    const int result = api_.module_function(&f, m, kernel.c_str());
    if (result == kNotFound)
      throw Error(ErrorCode::kUnsupported, "the code object has no kernel " + kernel);
    check_result(result, "hipModuleGetFunction");
    return f;
  }

  void begin_capture(Stream s) override {
    check_result(api_.begin_capture(s, kThreadLocalCapture), "hipStreamBeginCapture");
  }
  Graph end_capture(Stream s) override {
    void* recorded = nullptr;
    check_result(api_.end_capture(s, &recorded), "hipStreamEndCapture");
    Graph graph = nullptr;
    const int result = api_.graph_instantiate(&graph, recorded, 0);
    check_result(api_.graph_destroy(recorded), "hipGraphDestroy");
    check_result(result, "hipGraphInstantiateWithFlags");
    return graph;
  }
  void launch(Graph g, Stream s) override {
    check_result(api_.graph_launch(g, s), "hipGraphLaunch");
  }
  void destroy(Graph g) override {
    check_result(api_.graph_exec_destroy(g), "hipGraphExecDestroy");
  }

 private:
  void check_result(int result, const char* call) const {
    if (result == kSuccess) return;
    const char* text = api_.error_string(result);
    throw Error(result == kOutOfMemory ? ErrorCode::kOutOfMemory : ErrorCode::kDevice,
                std::string(call) + " failed with " + std::to_string(result) + ": " +
                    (text ? text : "unknown"));
  }
  void check_allocation(int result, std::int64_t bytes, const char* kind) const {
    if (result == kOutOfMemory)
      throw Error(ErrorCode::kOutOfMemory,
                  "cannot allocate " + std::to_string(bytes) + " bytes of " + kind + " memory");
    check_result(result, "an allocation");
  }
  bool is_ready(int result, const char* call) const {
    if (result == kNotReady) return false;
    check_result(result, call);
    return true;
  }
  void copy(void* to, const void* from, std::int64_t bytes, int kind, Stream s) const {
    check_result(api_.memcpy_async(to, from, static_cast<std::size_t>(bytes), kind, s),
                 "hipMemcpyAsync");
  }

  Api api_;
};

}  // namespace

std::unique_ptr<Driver> open_hip_driver() { return std::make_unique<HipDriver>(); }

}  // namespace rocmforge::gpu
