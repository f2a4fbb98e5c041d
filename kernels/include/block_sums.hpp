// Sums of integers over the threads of a block, exact and so the same in any order.
#pragma once

#include "include/gpu.hpp"

namespace rocmforge::gpu {

template <int kWave, int kMask>
RF_DEVICE std::uint64_t add_other_lane(std::uint64_t v) {
  const auto low = shuffle_xor<kWave, kMask>(static_cast<std::uint32_t>(v));
  const auto high = shuffle_xor<kWave, kMask>(static_cast<std::uint32_t>(v >> 32));
  return v + (std::uint64_t{high} << 32 | low);
}

// Every lane gets the sum of its wave.
template <int kWave>
RF_DEVICE std::uint64_t wave_sum64(std::uint64_t v) {
  if constexpr (kWave == 64) v = add_other_lane<kWave, 32>(v);
  v = add_other_lane<kWave, 16>(v);
  v = add_other_lane<kWave, 8>(v);
  v = add_other_lane<kWave, 4>(v);
  v = add_other_lane<kWave, 2>(v);
  return add_other_lane<kWave, 1>(v);
}

// A weight and a count of every thread, added up for all. Two halves of the memory take turns, so
// that one barrier a sum is enough.
template <int kWave>
class BlockSums {
 public:
  static constexpr int kWaves = kThreads / kWave, kWords = 4 * kWaves;

  // `memory`: kWords shared values
  RF_DEVICE explicit BlockSums(std::uint64_t* memory) : memory_(memory) {}

  RF_DEVICE void add(std::uint64_t& weight, std::uint32_t& count) {
    std::uint64_t* half = memory_ + turn_ * 2 * kWaves;
    turn_ ^= 1;
    weight = wave_sum64<kWave>(weight);
    count = wave_sum<kWave>(count);
    const int wave = thread_index() / kWave;
    if (thread_index() % kWave == 0) {
      half[wave] = weight;
      half[kWaves + wave] = count;
    }
    barrier();
    weight = 0;
    count = 0;
    RF_UNROLL
    for (int i = 0; i < kWaves; ++i) {
      weight += half[i];
      count += static_cast<std::uint32_t>(half[kWaves + i]);
    }
  }

 private:
  std::uint64_t* memory_;
  int turn_ = 0;
};

// What the threads before this one have, and all together in `total`. `memory`: kThreads + 16
// shared values, which may be used again after the caller's next barrier.
RF_DEVICE std::uint64_t sum_before(std::uint64_t mine, std::uint64_t* memory,
                                   std::uint64_t& total) {
  constexpr int kGroup = kThreads / 16;
  const int t = thread_index();
  memory[t] = mine;
  barrier();
  if (t < 16) {
    std::uint64_t sum = 0;
    for (int i = 0; i < kGroup; ++i) sum += memory[t * kGroup + i];
    memory[kThreads + t] = sum;
  }
  barrier();
  std::uint64_t before = 0;
  total = 0;
  RF_NO_UNROLL
  for (int g = 0; g < 16; ++g) {
    const std::uint64_t group = memory[kThreads + g];
    total += group;
    if (g < t / kGroup) before += group;
  }
  RF_NO_UNROLL
  for (int i = t / kGroup * kGroup; i < t; ++i) before += memory[i];
  return before;
}

}  // namespace rocmforge::gpu
