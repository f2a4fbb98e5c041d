// The ranges of attend_decode into one result: each range's sums against the common maximum, in
// order. A block a token and head.
#include "include/gpu.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void attend_combine(const AttendArgs& a) {
  const int t = block_x();
  if (t >= a.query_start_loc[*a.num_seqs]) return;
  const std::int64_t row = t * std::int64_t{a.heads} + block_y();
  const float* ml = a.partial_ml + row * a.splits * 2;
  const float* partial = a.partial + row * a.splits * a.value_dim;
  float highest = -__builtin_inff();
  for (int i = 0; i < a.splits; ++i)
    if (ml[2 * i + 1] != 0.0f && highest < ml[2 * i]) highest = ml[2 * i];
  float sum = 0.0f;
  for (int i = 0; i < a.splits; ++i)
    if (ml[2 * i + 1] != 0.0f) sum = fma(exp(ml[2 * i] - highest), ml[2 * i + 1], sum);
  for (int d = thread_index(); d < a.value_dim; d += kThreads) {
    float total = 0.0f;
    for (int i = 0; i < a.splits; ++i)
      if (ml[2 * i + 1] != 0.0f)
        total = fma(exp(ml[2 * i] - highest), partial[std::int64_t{i} * a.value_dim + d], total);
    a.y[row * a.value_dim + d] = sum == 0.0f ? 0.0f : total / sum;
  }
}

}  // namespace

RF_KERNEL_WAVES(attend_combine, AttendArgs, attend_combine)
RF_EXPECT("attend_combine", 48)

}  // namespace rocmforge::gpu
