// Activations to 8 bits, as quant/activations.hpp defines it: eight neighbouring lanes share a
// group of 32 values, four a lane.
#pragma once

#include "include/gpu.hpp"
#include "quant/small_floats.hpp"

namespace rocmforge::gpu {

// `x` is the lane's four values of the group at `position` of a row of k; `active` is the same for
// the eight lanes. All lanes of a wave must call it.
template <int kWave>
RF_DEVICE void store_quantized(void* row, std::int32_t k, std::int32_t position, const float* x,
                               bool active) {
  // As bits, so that a NaN is the highest.
  std::uint32_t highest = 0;
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t bits = quant::bits_of_float(x[i]) & 0x7fffffffu;
    highest = highest < bits ? bits : highest;
  }
  highest = reduce_lanes<kWave, 8>(highest, Max{});
  const float largest = quant::float_of_bits(highest);
  float d = largest / 127.0f;
  const bool finite = highest < 0x7f800000u;
  const bool zero = !finite || d < 0x1p-126f;
  const float inverse = zero ? 0.0f : 127.0f / largest;
  if (zero) d = finite ? 0.0f : quant::float_of_bits(0x7fc00000u);

  std::uint32_t packed = 0;
  int sum = 0;
  for (int i = 0; i < 4; ++i) {
    const int q = zero ? 0 : static_cast<int>(round_to_even(x[i] * inverse));
    sum += q;
    packed |= static_cast<std::uint32_t>(q & 0xff) << (8 * i);
  }
  const int half_sum = reduce_lanes<kWave, 4>(sum, Sum{});
  const int other_sum = shuffle_xor<kWave, 4>(half_sum);
  if (!active) return;
  auto* quants = static_cast<std::uint32_t*>(row);
  quants[position / 4] = packed;
  if (thread_index() % 8 == 0) {
    auto* scales = reinterpret_cast<Q8Scale*>(static_cast<char*>(row) + k);
    scales[position / 32] = {d, static_cast<std::int16_t>(half_sum),
                             static_cast<std::int16_t>(other_sum)};
  }
}

}  // namespace rocmforge::gpu
