// Activations rounded to bf16 and put where the lanes of linear_direct load them: a block 16
// columns by 64 values, four neighbouring values a thread.
#include "include/rounded_rows.hpp"
#include "include/row_piece.hpp"

#if RF_HAS_MMA

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void to_tiles(const ToTilesArgs& a) {
  const int group = block_x(), column = group * 16 + thread_index() / 16;
  const int k = block_y() * 64 + thread_index() % 16 * 4;
  const int num_columns = *a.num_columns;
  if (group * 16 >= tiled_rows(num_columns) || k >= a.k) return;
  float v[4] = {};
  if (column < num_columns) load_four(v, a.x + column * std::int64_t{a.k}, k, a.k);
  store_tiled<kWave>(a.y, a.k, column, k, v);
}

}  // namespace

RF_KERNEL_WAVES(to_tiles, ToTilesArgs, to_tiles)
RF_EXPECT("to_tiles", 32, load16)

}  // namespace rocmforge::gpu

#endif
