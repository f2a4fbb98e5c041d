// The CUDA driver API, to run the same kernels on NVIDIA hardware. Values of its enums are those of
// cuda.h, which never change.
#include <string>
#include <type_traits>
#include <vector>

#include "core/error.hpp"
#include "gpu/driver.hpp"
#include "gpu/shared_library.hpp"

namespace rocmforge::gpu {
namespace {

constexpr int kSuccess = 0, kOutOfMemory = 2, kNoDevice = 100, kNotFound = 500, kNotReady = 600;
constexpr unsigned kNonBlockingStream = 1, kEventWithoutTiming = 2;
constexpr int kThreadLocalCapture = 1;

int number_of(Attribute a) {  // CUdevice_attribute
  switch (a) {
    case Attribute::kIntegrated:
      return 18;
    case Attribute::kRunTimeLimit:
      return 17;
    case Attribute::kL2Bytes:
      return 38;
    case Attribute::kCapabilityMajor:
      return 75;
    case Attribute::kMaxBlockX:
      return 2;
    case Attribute::kMaxBlockY:
      return 3;
    case Attribute::kMaxBlockZ:
      return 4;
    case Attribute::kMaxGridX:
      return 5;
    case Attribute::kMaxGridY:
      return 6;
    case Attribute::kMaxGridZ:
      return 7;
    case Attribute::kMaxThreadsPerBlock:
      return 1;
    case Attribute::kCapabilityMinor:
      return 76;
    case Attribute::kNumMultiprocessors:
      return 16;
    case Attribute::kPciBus:
      return 33;
    case Attribute::kPciDevice:
      return 34;
    case Attribute::kPciDomain:
      return 50;
    case Attribute::kMaxSharedBytes:
      return 8;
    case Attribute::kWaveSize:
      return 10;
  }
  throw Error(ErrorCode::kInternal, "an attribute without a CUDA number");
}

// Device addresses are 64-bit integers in cuda.h; they are passed like pointers.
struct Api {
  int (*init)(unsigned);
  int (*get_device_count)(int*);
  int (*device_get_name)(char*, int, int);
  int (*device_get_attribute)(int*, int, int);
  int (*retain_context)(void**, int);
  int (*set_context)(void*);
  int (*mem_get_info)(std::size_t*, std::size_t*);
  int (*malloc)(void**, std::size_t);
  int (*free)(void*);
  int (*host_malloc)(void**, std::size_t, unsigned);
  int (*host_free)(void*);
  int (*copy_to_device)(void*, const void*, std::size_t, Stream);
  int (*copy_to_host)(void*, const void*, std::size_t, Stream);
  int (*copy_on_device)(void*, const void*, std::size_t, Stream);
  int (*memset_async)(void*, unsigned char, std::size_t, Stream);
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
  int (*error_string)(int, const char**);
};

Api load_api() {
  static const SharedLibrary library("CUDA", {"libcuda.so.1", "libcuda.so"});
  Api api{};
  const auto load = [&](auto*& function, const char* symbol) {
    function =
        reinterpret_cast<std::remove_reference_t<decltype(function)>>(library.symbol(symbol));
  };
  load(api.init, "cuInit");
  load(api.get_device_count, "cuDeviceGetCount");
  load(api.device_get_name, "cuDeviceGetName");
  load(api.device_get_attribute, "cuDeviceGetAttribute");
  load(api.retain_context, "cuDevicePrimaryCtxRetain");
  load(api.set_context, "cuCtxSetCurrent");
  load(api.mem_get_info, "cuMemGetInfo_v2");
  load(api.malloc, "cuMemAlloc_v2");
  load(api.free, "cuMemFree_v2");
  load(api.host_malloc, "cuMemHostAlloc");
  load(api.host_free, "cuMemFreeHost");
  load(api.copy_to_device, "cuMemcpyHtoDAsync_v2");
  load(api.copy_to_host, "cuMemcpyDtoHAsync_v2");
  load(api.copy_on_device, "cuMemcpyDtoDAsync_v2");
  load(api.memset_async, "cuMemsetD8Async");
  load(api.stream_create, "cuStreamCreate");
  load(api.stream_destroy, "cuStreamDestroy_v2");
  load(api.stream_query, "cuStreamQuery");
  load(api.stream_synchronize, "cuStreamSynchronize");
  load(api.stream_wait_event, "cuStreamWaitEvent");
  load(api.event_create, "cuEventCreate");
  load(api.event_destroy, "cuEventDestroy_v2");
  load(api.event_record, "cuEventRecord");
  load(api.event_query, "cuEventQuery");
  load(api.event_synchronize, "cuEventSynchronize");
  load(api.event_elapsed, "cuEventElapsedTime");
  load(api.module_load, "cuModuleLoadData");
  load(api.module_unload, "cuModuleUnload");
  load(api.module_function, "cuModuleGetFunction");
  load(api.launch_kernel, "cuLaunchKernel");
  load(api.begin_capture, "cuStreamBeginCapture_v2");
  load(api.end_capture, "cuStreamEndCapture");
  load(api.graph_instantiate, "cuGraphInstantiateWithFlags");
  load(api.graph_launch, "cuGraphLaunch");
  load(api.graph_exec_destroy, "cuGraphExecDestroy");
  load(api.graph_destroy, "cuGraphDestroy");
  load(api.error_string, "cuGetErrorString");
  return api;
}

class CudaDriver final : public Driver {
 public:
  CudaDriver() : api_(load_api()) {
    const int result = api_.init(0);
    if (result != kNoDevice) check_result(result, "cuInit");
  }

  std::string_view name() const override { return "cuda"; }

  int device_count() override {
    int count = 0;
    const int result = api_.get_device_count(&count);
    if (result == kNoDevice) return 0;
    check_result(result, "cuDeviceGetCount");
    return count;
  }

  std::string device_name(int device) override {
    char text[256] = {};
    check_result(api_.device_get_name(text, sizeof(text) - 1, device), "cuDeviceGetName");
    return text;
  }

  std::int64_t attribute(int device, Attribute a) override {
    int value = 0;
    check_result(api_.device_get_attribute(&value, number_of(a), device), "cuDeviceGetAttribute");
    return value;
  }

  // The primary context of a device, which libraries of the CUDA runtime share. It is retained once
  // and for good.
  void make_current(int device) override {
    const auto index = static_cast<std::size_t>(device);
    if (index >= contexts_.size()) contexts_.resize(index + 1, nullptr);
    if (!contexts_[index])
      check_result(api_.retain_context(&contexts_[index], device), "cuDevicePrimaryCtxRetain");
    check_result(api_.set_context(contexts_[index]), "cuCtxSetCurrent");
  }

  MemoryInfo memory() override {
    std::size_t free_bytes = 0, total_bytes = 0;
    check_result(api_.mem_get_info(&free_bytes, &total_bytes), "cuMemGetInfo");
    return {static_cast<std::int64_t>(free_bytes), static_cast<std::int64_t>(total_bytes)};
  }

  void* allocate(std::int64_t bytes) override {
    void* p = nullptr;
    check_allocation(api_.malloc(&p, static_cast<std::size_t>(bytes)), bytes, "device");
    return p;
  }
  void free(void* p) override { check_result(api_.free(p), "cuMemFree"); }
  void* allocate_pinned(std::int64_t bytes) override {
    void* p = nullptr;
    check_allocation(api_.host_malloc(&p, static_cast<std::size_t>(bytes), 0), bytes,
                     "pinned host");
    return p;
  }
  void free_pinned(void* p) override { check_result(api_.host_free(p), "cuMemFreeHost"); }

  void copy_to_device(void* to, const void* from, std::int64_t bytes, Stream s) override {
    check_result(api_.copy_to_device(to, from, static_cast<std::size_t>(bytes), s),
                 "cuMemcpyHtoDAsync");
  }
  void copy_to_host(void* to, const void* from, std::int64_t bytes, Stream s) override {
    check_result(api_.copy_to_host(to, from, static_cast<std::size_t>(bytes), s),
                 "cuMemcpyDtoHAsync");
  }
  void copy_on_device(void* to, const void* from, std::int64_t bytes, Stream s) override {
    check_result(api_.copy_on_device(to, from, static_cast<std::size_t>(bytes), s),
                 "cuMemcpyDtoDAsync");
  }
  void fill(void* to, std::uint8_t value, std::int64_t bytes, Stream s) override {
    check_result(api_.memset_async(to, value, static_cast<std::size_t>(bytes), s),
                 "cuMemsetD8Async");
  }
  void launch(Function f, const LaunchShape& shape, const void* args, std::size_t,
              Stream s) override {
    void* params[] = {const_cast<void*>(args)};
    const auto& [grid, block, shared] = shape;
    check_result(api_.launch_kernel(f, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, s,
                                    params, nullptr),
                 "cuLaunchKernel");
  }

  Stream create_stream() override {
    Stream s = nullptr;
    check_result(api_.stream_create(&s, kNonBlockingStream), "cuStreamCreate");
    return s;
  }
  void destroy(Stream s) override { check_result(api_.stream_destroy(s), "cuStreamDestroy"); }
  bool done(Stream s) override { return is_ready(api_.stream_query(s), "cuStreamQuery"); }
  void synchronize(Stream s) override {
    check_result(api_.stream_synchronize(s), "cuStreamSynchronize");
  }
  Event create_event(bool timed) override {
    Event e = nullptr;
    check_result(api_.event_create(&e, timed ? 0 : kEventWithoutTiming), "cuEventCreate");
    return e;
  }
  void destroy(Event e) override { check_result(api_.event_destroy(e), "cuEventDestroy"); }
  void record(Event e, Stream s) override {
    check_result(api_.event_record(e, s), "cuEventRecord");
  }
  void wait(Stream s, Event e) override {
    check_result(api_.stream_wait_event(s, e, 0), "cuStreamWaitEvent");
  }
  bool done(Event e) override { return is_ready(api_.event_query(e), "cuEventQuery"); }
  void synchronize(Event e) override {
    check_result(api_.event_synchronize(e), "cuEventSynchronize");
  }
  float elapsed_ms(Event from, Event to) override {
    float ms = 0.0f;
    check_result(api_.event_elapsed(&ms, from, to), "cuEventElapsedTime");
    return ms;
  }

  Module load_module(const void* image) override {
    Module m = nullptr;
    check_result(api_.module_load(&m, image), "cuModuleLoadData");
    return m;
  }
  void unload(Module m) override { check_result(api_.module_unload(m), "cuModuleUnload"); }
  Function function(Module m, const std::string& kernel) override {
    Function f = nullptr;
    const int result = api_.module_function(&f, m, kernel.c_str());
    if (result == kNotFound)
      throw Error(ErrorCode::kUnsupported, "the code object has no kernel " + kernel);
    check_result(result, "cuModuleGetFunction");
    return f;
  }

  void begin_capture(Stream s) override {
    check_result(api_.begin_capture(s, kThreadLocalCapture), "cuStreamBeginCapture");
  }
  Graph end_capture(Stream s) override {
    void* recorded = nullptr;
    check_result(api_.end_capture(s, &recorded), "cuStreamEndCapture");
    Graph graph = nullptr;
    const int result = api_.graph_instantiate(&graph, recorded, 0);
    check_result(api_.graph_destroy(recorded), "cuGraphDestroy");
    check_result(result, "cuGraphInstantiateWithFlags");
    return graph;
  }
  void launch(Graph g, Stream s) override {
    check_result(api_.graph_launch(g, s), "cuGraphLaunch");
  }
  void destroy(Graph g) override { check_result(api_.graph_exec_destroy(g), "cuGraphExecDestroy"); }

 private:
  void check_result(int result, const char* call) const {
    if (result == kSuccess) return;
    const char* text = nullptr;
    api_.error_string(result, &text);
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

  Api api_;
  std::vector<void*> contexts_;  // by device
};

}  // namespace

std::unique_ptr<Driver> open_cuda_driver() { return std::make_unique<CudaDriver>(); }

}  // namespace rocmforge::gpu
