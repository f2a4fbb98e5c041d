// Rotary position embedding in place: Su et al., arXiv:2104.09864. A wave a head, a lane a pair.
#include "include/gpu.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void rope(const RopeArgs& a) {
  const std::int64_t t = block_x();
  const int head = block_y() * (kThreads / kWave) + thread_index() / kWave;
  if (t >= *a.num_tokens || head >= a.heads) return;
  float* x = a.x + t * a.row_stride + std::int64_t{head} * a.head_dim;
  for (int i = thread_index() % kWave; i < a.half; i += kWave) {
    float* first = x + (a.interleaved ? 2 * i : i);
    float* second = first + (a.interleaved ? 1 : a.half);
    const float u = *first, v = *second;
    const float c = a.cos[t * a.half + i], s = a.sin[t * a.half + i];
    *first = u * c - v * s;
    *second = u * s + v * c;
  }
}

}  // namespace

RF_KERNEL_WAVES(rope, RopeArgs, rope)
RF_EXPECT("rope", 32)

}  // namespace rocmforge::gpu
