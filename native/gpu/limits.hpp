// What the GPU kernels cannot do, in words: asked when layers are placed, and again by what would
// launch them.
#pragma once

#include <cstdint>
#include <string>

#include "model/spec.hpp"

namespace rocmforge::gpu {

// The first part or size of the model that no kernel takes; empty if kernels take all its layers.
std::string model_problem(const DecoderSpec& spec);
// Why no kernel takes matrices of so many columns; empty if they do.
std::string columns_problem(std::int64_t columns);

}  // namespace rocmforge::gpu
