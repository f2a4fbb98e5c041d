// The largest logit of each block of 64 and of each row; rows that take the most probable token
// have it: the lowest id among equals (sample_args.hpp). Eight lanes have a block of 64; the last
// block of the grid to be done with a row looks through its maxima.
#include "include/arrival.hpp"
#include "include/gpu.hpp"
#include "include/row_piece.hpp"

namespace rocmforge::gpu {
namespace {

RF_DEVICE float larger_logit(float highest, float x) { return x > highest ? x : highest; }

template <int kWave>
RF_DEVICE void sample_top(const SampleArgs& a) {
  RF_SHARED(float, highest_of_waves, kThreads / kWave);
  RF_SHARED(std::uint32_t, first_of_waves, kThreads / kWave);
  constexpr float kNone = -__builtin_inff();
  constexpr int kSliceBlocks = kSampleSlice / kSampleBlock;
  const std::int64_t row = block_y();
  const float* logits = a.logits + row * a.n;
  const int num_blocks = (a.n + kSampleBlock - 1) / kSampleBlock;
  const int num_slices = (a.n + kSampleSlice - 1) / kSampleSlice;
  float* maxima = a.maxima + row * num_blocks;

  const int block = block_x() * kSliceBlocks + thread_index() / 8;
  float highest = kNone;  // a NaN is larger than nothing
  RF_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int i = block * kSampleBlock + half * 32 + thread_index() % 8 * 4;
    if (i + 4 <= a.n && a.n % 4 == 0) {
      float x[4];
      load_four(x, logits + i);
      RF_UNROLL
      for (int j = 0; j < 4; ++j) highest = larger_logit(highest, x[j]);
    } else {
      for (int j = i; j < i + 4 && j < a.n; ++j) highest = larger_logit(highest, logits[j]);
    }
  }
  highest = reduce_lanes<kWave, 8>(highest, Max{});
  if (thread_index() % 8 == 0 && block < num_blocks) maxima[block] = highest;
  if (!arrives_last(a.arrivals + row, static_cast<std::uint32_t>(num_slices))) return;

  highest = kNone;
  std::uint32_t first = 0;
  for (int b = thread_index(); b < num_blocks; b += kThreads) {
    const float x = maxima[b];
    if (x > highest) {
      highest = x;
      first = static_cast<std::uint32_t>(b);
    }
  }
  const float top = reduce_block<kWave>(highest, highest_of_waves, Max{});
  const bool drawable = top > kNone && top < -kNone;
  if (thread_index() == 0) a.top[row] = top;
  if (!drawable || a.rows[row].inv_temperature != 0.0f) {
    if (thread_index() == 0) a.ids[row] = -1;
    return;
  }
  // The lowest one, as the highest of the complements.
  const std::uint32_t mine = highest == top ? ~first : 0;
  const std::uint32_t found = ~reduce_block<kWave>(mine, first_of_waves, Max{});
  const int begin = static_cast<int>(found) * kSampleBlock;
  barrier();
  const int i = begin + thread_index() % kSampleBlock;
  const std::uint32_t id = i < a.n && logits[i] == top ? ~static_cast<std::uint32_t>(i) : 0;
  const std::uint32_t lowest = ~reduce_block<kWave>(id, first_of_waves, Max{});
  if (thread_index() == 0) a.ids[row] = static_cast<std::int32_t>(lowest);
}

}  // namespace

RF_KERNEL_WAVES(sample_top, SampleArgs, sample_top)
RF_EXPECT("sample_top", 48, load16)

}  // namespace rocmforge::gpu
