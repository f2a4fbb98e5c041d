// Activations rounded to bf16: a block a piece of a row, four neighbouring values a thread.
#include "include/rounded_rows.hpp"
#include "include/row_piece.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void to_bf16(const ToBf16Args& a) {
  const std::int64_t row = block_x();
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  if (row >= *a.num_rows || i >= a.n) return;
  float v[4];
  load_four(v, a.x + row * a.n, i, a.n);
  store_bf16(a.y, row * a.n + i, v);
}

}  // namespace

RF_KERNEL_WAVES(to_bf16, ToBf16Args, to_bf16)
RF_EXPECT("to_bf16", 32, load16)

}  // namespace rocmforge::gpu
