// Activations rounded to bf16 and put where the lanes of linear_direct load them: a block 16
// columns by 64 values, four neighbouring values a thread.
#include "include/mma.hpp"
#include "include/row_piece.hpp"

#if RF_HAS_MMA

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void to_tiles(const ToTilesArgs& a) {
  const int group = block_x(), row = thread_index() / 16, column = group * 16 + row;
  const int k = block_y() * 64 + thread_index() % 16 * 4;
  const int num_columns = *a.num_columns;
  if (group * 16 >= (num_columns + 31) / 32 * 32 || k >= a.k) return;
  float v[4] = {};
  if (column < num_columns) load_four(v, a.x + column * std::int64_t{a.k}, k, a.k);
  const int tile = k / 16;
  auto* words = static_cast<std::uint32_t*>(a.y) + (group * std::int64_t{a.k / 16} + tile) * 128;
  words[MmaShare<kWave>::word(tile, row, k % 16)] = pack_bf16(v[0], v[1]);
  words[MmaShare<kWave>::word(tile, row, k % 16 + 2)] = pack_bf16(v[2], v[3]);
}

}  // namespace

RF_KERNEL_WAVES(to_tiles, ToTilesArgs, to_tiles)
RF_EXPECT("to_tiles", 32, load16)

}  // namespace rocmforge::gpu

#endif
