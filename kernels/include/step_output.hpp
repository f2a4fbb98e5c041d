// The residual stream on its way into the next product (step_args.hpp).
#pragma once

#include "include/quantize_values.hpp"
#include "include/row_piece.hpp"

namespace rocmforge::gpu {

// A lane's four values v of a column from `position` on; eight neighbouring lanes have a group of
// 32, `active` is the same for them. All lanes of a wave must call it.
template <int kWave>
RF_DEVICE void store_step_output(const StepOutput& out, std::int64_t column, int n, int position,
                                 const float* v, bool active) {
  float squares = 0.0f, scaled[4] = {};
  for (int j = 0; j < 4; ++j) squares = fma(v[j], v[j], squares);
  squares = reduce_lanes<kWave, 8>(squares, Sum{});
  if (active) {
    float weight[4];
    load_four(weight, out.weight + position);
    for (int j = 0; j < 4; ++j) scaled[j] = v[j] * weight[j];
    if (thread_index() % 8 == 0) out.squares[column * (n / 32) + position / 32] = squares;
    if (out.scaled) store_four(out.scaled + column * n + position, scaled);
  }
  if (out.quantized)
    store_quantized<kWave>(static_cast<char*>(out.quantized) + column * q8_row_bytes(n), n,
                           position, scaled, active);
}

}  // namespace rocmforge::gpu
