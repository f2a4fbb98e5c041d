// y = silu(gate) * up, silu(x) = x / (1 + exp(-x)); gate and up are the halves of a row.
#include "include/quantize_values.hpp"
#include "include/rounded_rows.hpp"
#include "include/row_piece.hpp"

namespace rocmforge::gpu {
namespace {

// Four values of row `row` from i on; zeros beyond the row.
RF_DEVICE void silu_mul_four(float* y, const SiluMulArgs& a, std::int64_t row, int i) {
  float gate[4] = {}, up[4] = {};
  const float* x = a.x + row * 2 * a.n;
  if (i < a.n) {
    load_four(gate, x, i, a.n);
    load_four(up, x + a.n, i, a.n);
  }
  for (int j = 0; j < 4; ++j) y[j] = gate[j] / (1.0f + exp(-gate[j])) * up[j];
}

template <int kWave>
RF_DEVICE void silu_mul(const SiluMulArgs& a) {
  const std::int64_t row = block_x();
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  if (row >= *a.num_rows || i >= a.n) return;
  float y[4];
  silu_mul_four(y, a, row, i);
  store_four(a.y + row * a.n, y, i, a.n);
}

template <int kWave>
RF_DEVICE void silu_mul_q8(const SiluMulArgs& a) {
  const std::int64_t row = block_x();
  if (row >= *a.num_rows) return;
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  float y[4];
  silu_mul_four(y, a, row, i);
  store_quantized<kWave>(static_cast<char*>(a.quantized) + row * q8_row_bytes(a.n), a.n, i, y,
                         i < a.n);
}

template <int kWave>
RF_DEVICE void silu_mul_bf16(const SiluMulArgs& a) {
  const std::int64_t row = block_x();
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  if (row >= *a.num_rows || i >= a.n) return;
  float y[4];
  silu_mul_four(y, a, row, i);
  store_bf16(a.quantized, row * a.n + i, y);
}

#if RF_HAS_MMA
template <int kWave>
RF_DEVICE void silu_mul_tiles(const SiluMulArgs& a) {
  const int row = block_x();
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  if (row >= tiled_rows(*a.num_rows) || i >= a.n) return;
  float y[4] = {};
  if (row < *a.num_rows) silu_mul_four(y, a, row, i);
  store_tiled<kWave>(a.quantized, a.n, row, i, y);
}
#endif

}  // namespace

RF_KERNEL_WAVES(silu_mul_bf16, SiluMulArgs, silu_mul_bf16)
RF_EXPECT("silu_mul_bf16", 48, load16)
#if RF_HAS_MMA
RF_KERNEL_WAVES(silu_mul_tiles, SiluMulArgs, silu_mul_tiles)
RF_EXPECT("silu_mul_tiles", 48, load16)
#endif
RF_KERNEL_WAVES(silu_mul, SiluMulArgs, silu_mul)
RF_EXPECT("silu_mul", 48, load16)
RF_KERNEL_WAVES(silu_mul_q8, SiluMulArgs, silu_mul_q8)
RF_EXPECT("silu_mul_q8", 48, load16)

}  // namespace rocmforge::gpu
