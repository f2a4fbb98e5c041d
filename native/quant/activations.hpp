// Activations quantized to 8 bits, the right-hand side of the integer dot products.
//
// One block holds q = round_to_nearest_even(x * (127 / max|x|)), |q| <= 127, and the scale
// d = max|x| / 127, so |x - d * q| <= d * (1/2 + 2^-15): the three roundings of 127 / max, of the
// product and of d move a value of at most 127 steps by less than 127 * 2^-22 steps. Every ISA
// produces the same bytes. Two cases are special:
//   d would be subnormal (max|x| < 127 * 2^-126): d = 0 and q = 0, as for all zeros;
//   any x is infinite or NaN: d = NaN and q = 0, so every result that uses the block is NaN.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "quant/formats.hpp"

namespace rocmforge::quant {

struct BlockQ8x32 {
  float d;
  std::int32_t sum;  // of qs
  std::int8_t qs[32];
};

struct BlockQ8x256 {
  float d;
  std::int16_t sums[16];  // of 16 qs each
  std::int8_t qs[256];
};

static_assert(sizeof(BlockQ8x32) == 40 && sizeof(BlockQ8x256) == 292);

struct ActivationInfo {
  std::string_view name;
  std::int32_t block_values;
  std::int32_t block_bytes;
};

constexpr std::array<ActivationInfo, kNumActivationTypes> kActivations = {{
    {"float", 1, sizeof(float)},
    {"q8x32", 32, sizeof(BlockQ8x32)},
    {"q8x256", 256, sizeof(BlockQ8x256)},
}};

constexpr const ActivationInfo& info(ActivationType t) {
  return kActivations[static_cast<std::size_t>(t)];
}

// Bytes of one column of `k` activations, which is a whole number of blocks.
constexpr std::int64_t activation_row_bytes(ActivationType t, std::int64_t k) {
  return k / info(t).block_values * info(t).block_bytes;
}

}  // namespace rocmforge::quant
