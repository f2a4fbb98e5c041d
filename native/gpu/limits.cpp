#include "gpu/limits.hpp"

#include <algorithm>
#include <iterator>

#include "include/args.hpp"

namespace rocmforge::gpu {

std::string attention_problem(const DecoderSpec& spec) {
  const std::int32_t widest = std::max(spec.head_dim, spec.value_dim);
  if (widest > std::end(kAttendDims)[-1])
    return "GPU kernels take heads of at most " + std::to_string(std::end(kAttendDims)[-1]) +
           " elements; this model has " + std::to_string(widest);
  if (spec.head_dim % 4 || spec.value_dim % 4)
    return "GPU kernels take heads of a multiple of 4 elements; this model has keys of " +
           std::to_string(spec.head_dim) + " and values of " + std::to_string(spec.value_dim);
  return "";
}

// Vector loads of activations begin at rows: 16 bytes of floats.
std::string columns_problem(std::int64_t columns) {
  if (columns % 4 == 0) return "";
  return "GPU kernels take matrices of a multiple of 4 columns; this one has " +
         std::to_string(columns);
}

}  // namespace rocmforge::gpu
