// The norm of rms_norm.hip for every head of a row alone, in place (query and key norms): a wave a
// head.
#include "include/gpu.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void rms_norm_heads(const RmsNormHeadsArgs& a) {
  const std::int64_t row = block_x();
  const int head = block_y() * (kThreads / kWave) + thread_index() / kWave;
  if (row >= *a.num_rows || head >= a.heads) return;
  float* x = a.x + row * a.row_stride + std::int64_t{head} * a.head_dim;
  const int lane = thread_index() % kWave;
  float squares = 0.0f;
  for (int i = lane; i < a.head_dim; i += kWave) squares = fma(x[i], x[i], squares);
  squares = wave_sum<kWave>(squares);
  const float scale = 1.0f / sqrt(squares / static_cast<float>(a.head_dim) + a.eps);
  for (int i = lane; i < a.head_dim; i += kWave) x[i] = x[i] * scale * a.weight[i];
}

}  // namespace

RF_KERNEL_WAVES(rms_norm_heads, RmsNormHeadsArgs, rms_norm_heads)
RF_EXPECT("rms_norm_heads", 32)

}  // namespace rocmforge::gpu
