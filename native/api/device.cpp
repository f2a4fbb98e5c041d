#include "api/device.hpp"

#include <algorithm>
#include <charconv>
#include <thread>

#include "api/backends.hpp"
#include "cpu/cpu_backend.hpp"

namespace rocmforge::api {
namespace {

// Of the memory that is free; the rest is for who else uses the device.
constexpr double kShare = 0.9;
constexpr int kMaxThreads = 1024;

std::int64_t memory_limit(const Device& device) {
  if (device.options().memory_bytes > 0) return device.options().memory_bytes;
  const std::unique_ptr<gpu::Driver> driver = gpu::open_driver(device.runtime());
  driver->make_current(device.ordinal());
  return static_cast<std::int64_t>(kShare * static_cast<double>(driver->memory().free_bytes));
}

}  // namespace

std::vector<DeviceInfo> devices(const std::string& runtime) {
  const std::unique_ptr<gpu::Driver> driver = gpu::open_driver(runtime);
  std::vector<DeviceInfo> found;
  for (int i = 0; i < driver->device_count(); ++i) {
    driver->make_current(i);
    const gpu::DeviceProperties properties = gpu::properties_of(*driver, i);
    const gpu::MemoryInfo memory = driver->memory();
    found.push_back({runtime + ":" + std::to_string(i), properties.name, properties.wave_size,
                     memory.free_bytes, memory.total_bytes});
  }
  return found;
}

Device::Device(const std::string& name, const DeviceOptions& options)
    : name_(name), options_(options) {
  check(options.num_threads >= 0 && options.num_threads <= kMaxThreads && options.memory_bytes >= 0,
        ErrorCode::kInvalidArgument, "a device has 0 to 1024 threads and no negative memory");
  if (name == "cpu") return;
  const std::size_t colon = name.find(':');
  runtime_ = name.substr(0, colon);
  const char* end = name.data() + name.size();
  const char* digits = colon == std::string::npos ? end : name.data() + colon + 1;
  const auto [rest, problem] = std::from_chars(digits, end, ordinal_);
  const bool known = runtime_ == "hip" || runtime_ == "cuda" || runtime_ == "host";
  if (!known || problem != std::errc() || rest != end || ordinal_ < 0)
    throw Error(ErrorCode::kInvalidArgument,
                "device is '" + name + "'; it can be cpu, hip:N, cuda:N or host:N");
}

int num_threads(const Device& device) {
  if (device.options().num_threads > 0) return device.options().num_threads;
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
}

std::unique_ptr<Backend> open_backend(const Device& device, const gpu::StepLimits& limits,
                                      std::int64_t weight_bytes) {
  const DeviceOptions& o = device.options();
  if (!device.is_gpu())
    return std::make_unique<cpu::CpuBackend>(
        cpu::kernels(), cpu::CpuOptions{num_threads(device), o.float_activations, o.deterministic});
  return std::make_unique<gpu::GpuBackend>(gpu::GpuOptions{.driver = device.runtime(),
                                                           .ordinal = device.ordinal(),
                                                           .code_object = o.code_object,
                                                           .memory_limit = memory_limit(device),
                                                           .float_activations = o.float_activations,
                                                           .deterministic = o.deterministic,
                                                           .weight_bytes = weight_bytes,
                                                           .limits = limits});
}

}  // namespace rocmforge::api
