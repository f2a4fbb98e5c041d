// y += x: the residual of every row, or one bias for all rows.
#include "include/row_piece.hpp"

namespace rocmforge::gpu {
namespace {

RF_DEVICE void add_row(float* y, const float* x, int n) {
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  if (i >= n) return;
  float sum[4], v[4];
  load_four(sum, y, i, n);
  load_four(v, x, i, n);
  for (int j = 0; j < 4; ++j) sum[j] += v[j];
  store_four(y, sum, i, n);
}

template <int kWave>
RF_DEVICE void add(const AddArgs& a) {
  const std::int64_t row = block_x();
  if (row < *a.num_rows) add_row(a.y + row * a.n, a.x + row * a.n, a.n);
}

template <int kWave>
RF_DEVICE void add_bias(const AddArgs& a) {
  const std::int64_t row = block_x();
  if (row < *a.num_rows) add_row(a.y + row * a.n, a.x, a.n);
}

}  // namespace

RF_KERNEL_WAVES(add, AddArgs, add)
RF_EXPECT("add", 32, load16)
RF_KERNEL_WAVES(add_bias, AddArgs, add_bias)
RF_EXPECT("add_bias", 32, load16)

}  // namespace rocmforge::gpu
