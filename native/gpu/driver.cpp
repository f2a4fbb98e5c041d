#include "gpu/driver.hpp"

#include "core/error.hpp"

namespace rocmforge::gpu {

std::unique_ptr<Driver> open_driver(const std::string& name) {
  if (name == "hip") return open_hip_driver();
  if (name == "cuda") return open_cuda_driver();
  if (name == "host") return open_host_driver();
  throw Error(ErrorCode::kInvalidArgument,
              "driver is '" + name + "'; it can be 'hip', 'cuda' or 'host'");
}

}  // namespace rocmforge::gpu
