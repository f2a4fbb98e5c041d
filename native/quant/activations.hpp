// Activations quantized to 8 bits, the right-hand side of the integer dot products.
//
// One block holds q = round_to_nearest_even(x * (127 / max|x|)), |q| <= 127, and the scale
// d = max|x| / 127, so |x - d * q| <= d * (1/2 + 2^-15): the three roundings of 127 / max, of the
// product and of d move a value of at most 127 steps by less than 127 * 2^-22 steps. Every ISA
// produces the same bytes. Two cases are special:
//   d would be subnormal (max|x| < 127 * 2^-126): d = 0 and q = 0, as for all zeros;
//   any x is infinite or NaN: d = NaN and q = 0, so every result that uses the block is NaN.
//
// One scale for 32 values, for K-quants too: with one for 256, a single large channel costs the
// other 255 their precision (relative error of a product with every 200th channel 20 times as
// large: 3.2e-2 against 1.2e-2; of a normal distribution 6.8e-3 against 5.2e-3).
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/formats.hpp"

namespace rocmforge::quant {

// A cache line. Sums are those of the first and the last sixteen qs and of all; as floats for the
// mins of weights, and times -128 for integers of weights that are stored with an offset.
struct alignas(64) BlockQ8x32 {
  float d;
  float sums[3];
  std::int32_t offsets[3];
  std::int32_t unused;
  std::int8_t qs[32];
};

static_assert(sizeof(BlockQ8x32) == 64);
constexpr std::int64_t kActivationBlock = 32;  // values

}  // namespace rocmforge::quant
