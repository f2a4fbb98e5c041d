// The lowest index of the largest logit of each row; a NaN counts as the smallest. A block a row.
#include "include/gpu.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void argmax(const ArgmaxArgs& a) {
  RF_SHARED(float, scores, kThreads / kWave);
  RF_SHARED(std::uint32_t, indices, kThreads / kWave);
  const std::int64_t row = block_x();
  if (row >= *a.num_rows) return;
  const float* logits = a.logits + row * a.n;
  // Infinite from the start, so that rows of NaNs and of -infinity have index 0 too.
  float best = -__builtin_inff();
  int index = a.n;
  for (int i = thread_index(); i < a.n; i += kThreads) {
    const float x = logits[i];
    if (x > best) {
      best = x;
      index = i;
    }
  }
  const float highest = reduce_block<kWave>(best, scores, Max{});
  // The lowest index, as the highest of the complements.
  const auto mine = static_cast<std::uint32_t>(best == highest ? index : a.n);
  const std::uint32_t lowest = ~reduce_block<kWave>(~mine, indices, Max{});
  if (thread_index() == 0)
    a.ids[row] = lowest < static_cast<std::uint32_t>(a.n) ? static_cast<int>(lowest) : 0;
}

}  // namespace

RF_KERNEL_WAVES(argmax, ArgmaxArgs, argmax)
RF_EXPECT("argmax", 32)

}  // namespace rocmforge::gpu
