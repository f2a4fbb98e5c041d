// y = x / sqrt(mean(x^2) + eps) * weight, a block a row.
//   Zhang & Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467
//
// x is read twice; the second time from the cache. A thread owns four neighbouring values of every
// kRowPiece, so loads are of 16 bytes where n allows it.
#include "include/gpu.hpp"
#include "include/quantize_values.hpp"
#include "include/rounded_rows.hpp"
#include "include/row_piece.hpp"

namespace rocmforge::gpu {
namespace {

// 1 / sqrt(mean(x^2) + eps); the relative error of the sum is below (n / 256 + 16) * 2^-24.
template <int kWave>
RF_DEVICE float inverse_rms(const float* x, int n, float eps) {
  RF_SHARED(float, scratch, kThreads / kWave);
  float squares = 0.0f;
  for (int i = thread_index() * 4; i < n; i += kRowPiece) {
    float v[4];
    load_four(v, x, i, n);
    for (int j = 0; j < 4; ++j) squares = fma(v[j], v[j], squares);
  }
  squares = reduce_block<kWave>(squares, scratch, Sum{});
  return 1.0f / sqrt(squares / static_cast<float>(n) + eps);
}

template <int kWave>
RF_DEVICE void rms_norm(const RmsNormArgs& a) {
  const std::int64_t row = block_x();
  if (row >= *a.num_rows) return;
  const float* x = a.x + (a.rows ? a.rows[row] : row) * a.n;
  float* y = a.y + row * a.n;
  const float scale = inverse_rms<kWave>(x, a.n, a.eps);
  for (int i = thread_index() * 4; i < a.n; i += kRowPiece) {
    float v[4], w[4];
    load_four(v, x, i, a.n);
    load_four(w, a.weight, i, a.n);
    for (int j = 0; j < 4; ++j) v[j] = v[j] * scale * w[j];
    store_four(y, v, i, a.n);
  }
}

template <int kWave>
RF_DEVICE void rms_norm_q8(const RmsNormArgs& a) {
  const std::int64_t row = block_x();
  if (row >= *a.num_rows) return;
  const float* x = a.x + (a.rows ? a.rows[row] : row) * a.n;
  char* quantized = static_cast<char*>(a.quantized) + row * q8_row_bytes(a.n);
  const float scale = inverse_rms<kWave>(x, a.n, a.eps);
  for (int first = 0; first < a.n; first += kRowPiece) {
    const int i = first + thread_index() * 4;
    const bool active = i < a.n;
    float v[4] = {}, w[4];
    if (active) {
      load_four(v, x, i, a.n);
      load_four(w, a.weight, i, a.n);
      for (int j = 0; j < 4; ++j) v[j] = v[j] * scale * w[j];
      if (a.y) store_four(a.y + row * a.n, v, i, a.n);
    }
    store_quantized<kWave>(quantized, a.n, i, v, active);
  }
}

// A row of x, normed, four values at a time: f(i, v).
template <int kWave, class F>
RF_DEVICE void for_each_normed(const RmsNormArgs& a, std::int64_t row, F f) {
  const float* x = a.x + (a.rows ? a.rows[row] : row) * a.n;
  const float scale = inverse_rms<kWave>(x, a.n, a.eps);
  for (int i = thread_index() * 4; i < a.n; i += kRowPiece) {
    float v[4], w[4];
    load_four(v, x, i, a.n);
    load_four(w, a.weight, i, a.n);
    for (int j = 0; j < 4; ++j) v[j] = v[j] * scale * w[j];
    f(i, v);
  }
}

template <int kWave>
RF_DEVICE void rms_norm_bf16(const RmsNormArgs& a) {
  const std::int64_t row = block_x();
  if (row >= *a.num_rows) return;
  for_each_normed<kWave>(a, row,
                         [&](int i, const float* v) { store_bf16(a.quantized, row * a.n + i, v); });
}

#if RF_HAS_MMA
template <int kWave>
RF_DEVICE void rms_norm_tiles(const RmsNormArgs& a) {
  const int row = block_x();
  if (row >= tiled_rows(*a.num_rows)) return;
  if (row < *a.num_rows)
    return for_each_normed<kWave>(
        a, row, [&](int i, const float* v) { store_tiled<kWave>(a.quantized, a.n, row, i, v); });
  constexpr float kZeros[4] = {};
  for (int i = thread_index() * 4; i < a.n; i += kRowPiece)
    store_tiled<kWave>(a.quantized, a.n, row, i, kZeros);
}
#endif

}  // namespace

RF_KERNEL_WAVES(rms_norm_bf16, RmsNormArgs, rms_norm_bf16)
RF_EXPECT("rms_norm_bf16", 64, load16)
#if RF_HAS_MMA
RF_KERNEL_WAVES(rms_norm_tiles, RmsNormArgs, rms_norm_tiles)
RF_EXPECT("rms_norm_tiles", 64, load16)
#endif
RF_KERNEL_WAVES(rms_norm, RmsNormArgs, rms_norm)
RF_EXPECT("rms_norm", 64, load16)
RF_KERNEL_WAVES(rms_norm_q8, RmsNormArgs, rms_norm_q8)
RF_EXPECT("rms_norm_q8", 64, load16)

}  // namespace rocmforge::gpu
