// y[i] = x[rows[i]]
#include "include/row_piece.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void gather_rows(const GatherRowsArgs& a) {
  const std::int64_t row = block_x();
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  if (row >= *a.num_rows || i >= a.n) return;
  float v[4];
  load_four(v, a.x + std::int64_t{a.rows[row]} * a.n, i, a.n);
  store_four(a.y + row * a.n, v, i, a.n);
}

}  // namespace

RF_KERNEL_WAVES(gather_rows, GatherRowsArgs, gather_rows)
RF_EXPECT("gather_rows", 32, load16)

}  // namespace rocmforge::gpu
