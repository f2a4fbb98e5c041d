// mma.hpp for the emulation: waves of 32 as gfx11 spreads tiles, waves of 64 as gfx9 does.
#pragma once

#include <type_traits>

#include "include/mma.hpp"
#include "include/mma_maps.hpp"

#define RF_HAS_MMA 1

namespace rocmforge::gpu {

template <int kWave>
using MmaMap = std::conditional_t<kWave == 32, MmaMapGfx11, MmaMapGfx9>;
template <int kWave>
using MmaOperand = MappedOperand<MmaMap<kWave>>;
template <int kWave>
using MmaShare = MappedShare<MmaMap<kWave>>;

template <int kWave, class At>
RF_DEVICE MmaOperand<kWave> load_operand(At at) {
  MmaOperand<kWave> o;
  o.load(thread_index() % kWave, at);
  return o;
}

// What a lane brings to a product. They stay where they are until the whole wave has met.
struct MmaLane {
  const std::uint32_t *a, *b;
  float* sums;
};
inline thread_local MmaLane mma_lanes[kThreads];

// The whole wave's product, by the lane that arrives last.
template <int kWave, class Type>
void host_multiply_add(std::uint32_t*, int) {
  using Map = MmaMap<kWave>;
  const MmaLane* lanes = mma_lanes + thread_index() / kWave * kWave;
  float a[16][16], b[16][16];
  for (int lane = 0; lane < kWave; ++lane) {
    for (int i = 0; i < Map::kValues; ++i) {
      const int shift = i % 2 * 16, at = Map::first_value(lane) + i;
      a[lane % 16][at] = Type::from(static_cast<std::uint16_t>(lanes[lane].a[i / 2] >> shift));
      b[lane % 16][at] = Type::from(static_cast<std::uint16_t>(lanes[lane].b[i / 2] >> shift));
    }
  }
  for (int lane = 0; lane < kWave; ++lane) {
    for (int i = 0; i < MmaSums<kWave>::kCount; ++i) {
      const int row = Map::row(lane, i), column = Map::column(lane, i);
      float sum = lanes[lane].sums[i];
      for (int k = 0; k < kMmaSize; ++k) sum += a[row][k] * b[column][k];
      lanes[lane].sums[i] = sum;
    }
  }
}

template <class Type, int kWave>
RF_DEVICE void multiply_add(MmaSums<kWave>& d, const MmaOperand<kWave>& a,
                            const MmaOperand<kWave>& b) {
  constexpr int kOperation =
      std::is_same_v<Type, F16> ? 1 << 17 : 1 << 16;  // no shuffle's or reduction's
  mma_lanes[thread_index()] = {a.v, b.v, d.v};
  host::exchange(0, kWave, kOperation, host_multiply_add<kWave, Type>);
}

template <int kWave, class Type>
RF_DEVICE MmaOperand<kWave> operand_of(const MmaSums<kWave>& d, std::uint32_t* scratch) {
  return operand_through<kWave, MmaMap<kWave>, Type>(d, scratch);
}

}  // namespace rocmforge::gpu
