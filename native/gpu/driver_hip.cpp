// The HIP runtime of ROCm 6 to 10, opened at run time. Values of its enums are those of
// hip/hip_runtime_api.h, which has kept them since ROCm 5.
#include "core/error.hpp"
#include "gpu/runtime_driver.hpp"

namespace rocmforge::gpu {
namespace {

constexpr int kHostToDevice = 1, kDeviceToHost = 2, kDeviceToDevice = 3;  // hipMemcpyKind

class HipDriver final : public RuntimeDriver {
 public:
  HipDriver() {
    static const SharedLibrary library(
        "HIP", {"libamdhip64.so", "libamdhip64.so.10", "libamdhip64.so.9", "libamdhip64.so.8",
                "libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5",
                "/opt/rocm/lib/libamdhip64.so"});
    load(api_.init, library, "hipInit");
    load(api_.get_device_count, library, "hipGetDeviceCount");
    load(api_.device_get_name, library, "hipDeviceGetName");
    load(api_.device_get_attribute, library, "hipDeviceGetAttribute");
    load(api_.mem_get_info, library, "hipMemGetInfo");
    load(api_.malloc, library, "hipMalloc");
    load(api_.free, library, "hipFree");
    load(api_.host_malloc, library, "hipHostMalloc");
    load(api_.host_free, library, "hipHostFree");
    load(api_.stream_create, library, "hipStreamCreateWithFlags");
    load(api_.stream_destroy, library, "hipStreamDestroy");
    load(api_.stream_query, library, "hipStreamQuery");
    load(api_.stream_synchronize, library, "hipStreamSynchronize");
    load(api_.stream_wait_event, library, "hipStreamWaitEvent");
    load(api_.event_create, library, "hipEventCreateWithFlags");
    load(api_.event_destroy, library, "hipEventDestroy");
    load(api_.event_record, library, "hipEventRecord");
    load(api_.event_query, library, "hipEventQuery");
    load(api_.event_synchronize, library, "hipEventSynchronize");
    load(api_.event_elapsed, library, "hipEventElapsedTime");
    load(api_.module_load, library, "hipModuleLoadData");
    load(api_.module_unload, library, "hipModuleUnload");
    load(api_.module_function, library, "hipModuleGetFunction");
    load(api_.launch_kernel, library, "hipModuleLaunchKernel");
    load(api_.begin_capture, library, "hipStreamBeginCapture");
    load(api_.end_capture, library, "hipStreamEndCapture");
    load(api_.graph_instantiate, library, "hipGraphInstantiateWithFlags");
    load(api_.graph_launch, library, "hipGraphLaunch");
    load(api_.graph_exec_destroy, library, "hipGraphExecDestroy");
    load(api_.graph_destroy, library, "hipGraphDestroy");
    load(set_device_, library, "hipSetDevice");
    load(memcpy_async_, library, "hipMemcpyAsync");
    load(memset_async_, library, "hipMemsetAsync");
    load(error_string_, library, "hipGetErrorString");
    initialize();
  }

  std::string_view name() const override { return "hip"; }
  void make_current(int device) override { call(set_device_, device); }

  void copy_to_device(void* to, const void* from, std::int64_t bytes, Stream s) override {
    call(memcpy_async_, to, from, static_cast<std::size_t>(bytes), kHostToDevice, s);
  }
  void copy_to_host(void* to, const void* from, std::int64_t bytes, Stream s) override {
    call(memcpy_async_, to, from, static_cast<std::size_t>(bytes), kDeviceToHost, s);
  }
  void copy_on_device(void* to, const void* from, std::int64_t bytes, Stream s) override {
    call(memcpy_async_, to, from, static_cast<std::size_t>(bytes), kDeviceToDevice, s);
  }
  void fill(void* to, std::uint8_t value, std::int64_t bytes, Stream s) override {
    call(memset_async_, to, static_cast<int>(value), static_cast<std::size_t>(bytes), s);
  }

 private:
  int number_of(Attribute a) const override {
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
  const char* error_text(int result) const override { return error_string_.function(result); }

  Call<int(int)> set_device_;
  Call<int(void*, const void*, std::size_t, int, Stream)> memcpy_async_;
  Call<int(void*, int, std::size_t, Stream)> memset_async_;
  Call<const char*(int)> error_string_;
};

}  // namespace

std::unique_ptr<Driver> open_hip_driver() { return std::make_unique<HipDriver>(); }

}  // namespace rocmforge::gpu
