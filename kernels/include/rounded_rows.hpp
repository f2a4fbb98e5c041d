// Four values of an activation, rounded to bf16, for products on matrix cores: as a row
// (ToBf16Args) or as tiles (ToTilesArgs).
#pragma once

#include "include/mma.hpp"

namespace rocmforge::gpu {

RF_DEVICE void store_bf16(void* y, std::int64_t index, const float* v) {
  auto* words = static_cast<std::uint32_t*>(y) + index / 2;
  words[0] = pack_bf16(v[0], v[1]);
  words[1] = pack_bf16(v[2], v[3]);
}

// Rows of which there are tiles.
RF_DEVICE int tiled_rows(int rows) { return (rows + 31) / 32 * 32; }

#if RF_HAS_MMA
// Values i to i + 3 of row `row` of n, n % 16 == 0.
template <int kWave>
RF_DEVICE void store_tiled(void* y, int n, int row, int i, const float* v) {
  const int tile = i / 16;
  auto* words = static_cast<std::uint32_t*>(y) + (row / 16 * std::int64_t{n / 16} + tile) * 128;
  words[MmaShare<kWave>::word(tile, row % 16, i % 16)] = pack_bf16(v[0], v[1]);
  words[MmaShare<kWave>::word(tile, row % 16, i % 16 + 2)] = pack_bf16(v[2], v[3]);
}
#endif

}  // namespace rocmforge::gpu
