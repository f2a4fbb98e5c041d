// From a device as hosts name it to a backend.
#pragma once

#include <memory>

#include "api/device.hpp"
#include "gpu/gpu_backend.hpp"
#include "ops/backend.hpp"

namespace rocmforge::api {

int num_threads(const Device& device);
// `limits` and `weight_bytes` are a GPU's: what a step may hold, and what its weights take.
std::unique_ptr<Backend> open_backend(const Device& device, const gpu::StepLimits& limits,
                                      std::int64_t weight_bytes);

}  // namespace rocmforge::api
