// The CUDA driver API, to run the same kernels on NVIDIA hardware. Values of its enums are those of
// cuda.h, which never change.
#include <vector>

#include "core/error.hpp"
#include "gpu/runtime_driver.hpp"

namespace rocmforge::gpu {
namespace {

class CudaDriver final : public RuntimeDriver {
 public:
  CudaDriver() {
    static const SharedLibrary library("CUDA", {"libcuda.so.1", "libcuda.so"});
    load(api_.init, library, "cuInit");
    load(api_.get_device_count, library, "cuDeviceGetCount");
    load(api_.device_get_name, library, "cuDeviceGetName");
    load(api_.device_get_attribute, library, "cuDeviceGetAttribute");
    load(api_.mem_get_info, library, "cuMemGetInfo_v2");
    load(api_.malloc, library, "cuMemAlloc_v2");
    load(api_.free, library, "cuMemFree_v2");
    load(api_.host_malloc, library, "cuMemHostAlloc");
    load(api_.host_free, library, "cuMemFreeHost");
    load(api_.stream_create, library, "cuStreamCreate");
    load(api_.stream_destroy, library, "cuStreamDestroy_v2");
    load(api_.stream_query, library, "cuStreamQuery");
    load(api_.stream_synchronize, library, "cuStreamSynchronize");
    load(api_.stream_wait_event, library, "cuStreamWaitEvent");
    load(api_.event_create, library, "cuEventCreate");
    load(api_.event_destroy, library, "cuEventDestroy_v2");
    load(api_.event_record, library, "cuEventRecord");
    load(api_.event_query, library, "cuEventQuery");
    load(api_.event_synchronize, library, "cuEventSynchronize");
    load(api_.event_elapsed, library, "cuEventElapsedTime");
    load(api_.module_load, library, "cuModuleLoadData");
    load(api_.module_unload, library, "cuModuleUnload");
    load(api_.module_function, library, "cuModuleGetFunction");
    load(api_.launch_kernel, library, "cuLaunchKernel");
    load(api_.begin_capture, library, "cuStreamBeginCapture_v2");
    load(api_.end_capture, library, "cuStreamEndCapture");
    load(api_.graph_instantiate, library, "cuGraphInstantiateWithFlags");
    load(api_.graph_launch, library, "cuGraphLaunch");
    load(api_.graph_exec_destroy, library, "cuGraphExecDestroy");
    load(api_.graph_destroy, library, "cuGraphDestroy");
    load(retain_context_, library, "cuDevicePrimaryCtxRetain");
    load(set_context_, library, "cuCtxSetCurrent");
    load(copy_to_device_, library, "cuMemcpyHtoDAsync_v2");
    load(copy_to_host_, library, "cuMemcpyDtoHAsync_v2");
    load(copy_on_device_, library, "cuMemcpyDtoDAsync_v2");
    load(memset_async_, library, "cuMemsetD8Async");
    load(error_string_, library, "cuGetErrorString");
    initialize();
  }

  std::string_view name() const override { return "cuda"; }

  // The primary context of a device, which libraries of the CUDA runtime share. It is retained once
  // and for good.
  void make_current(int device) override {
    const auto index = static_cast<std::size_t>(device);
    if (index >= contexts_.size()) contexts_.resize(index + 1, nullptr);
    if (!contexts_[index]) call(retain_context_, &contexts_[index], device);
    call(set_context_, contexts_[index]);
  }

  void copy_to_device(void* to, const void* from, std::int64_t bytes, Stream s) override {
    call(copy_to_device_, to, from, static_cast<std::size_t>(bytes), s);
  }
  void copy_to_host(void* to, const void* from, std::int64_t bytes, Stream s) override {
    call(copy_to_host_, to, from, static_cast<std::size_t>(bytes), s);
  }
  void copy_on_device(void* to, const void* from, std::int64_t bytes, Stream s) override {
    call(copy_on_device_, to, from, static_cast<std::size_t>(bytes), s);
  }
  void fill(void* to, std::uint8_t value, std::int64_t bytes, Stream s) override {
    call(memset_async_, to, value, static_cast<std::size_t>(bytes), s);
  }

 private:
  int number_of(Attribute a) const override {
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
  const char* error_text(int result) const override {
    const char* text = nullptr;
    error_string_.function(result, &text);
    return text;
  }

  Call<int(void**, int)> retain_context_;
  Call<int(void*)> set_context_;
  Call<int(void*, const void*, std::size_t, Stream)> copy_to_device_, copy_to_host_,
      copy_on_device_;
  Call<int(void*, unsigned char, std::size_t, Stream)> memset_async_;
  Call<int(int, const char**)> error_string_;
  std::vector<void*> contexts_;  // by device
};

}  // namespace

std::unique_ptr<Driver> open_cuda_driver() { return std::make_unique<CudaDriver>(); }

}  // namespace rocmforge::gpu
