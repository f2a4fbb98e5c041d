// y[t] += sum_j weight[t, j] * x[token_slot[t, j]]: the experts' outputs back into the residual
// stream, in the order the router chose them.
#include "include/row_piece.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void combine(const CombineArgs& a) {
  const std::int64_t t = block_x();
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  if (t >= *a.num_tokens || i >= a.n) return;
  float sum[4];
  load_four(sum, a.y + t * a.n, i, a.n);
  for (int j = 0; j < a.used; ++j) {
    const float weight = a.weight[t * a.used + j];
    float v[4];
    load_four(v, a.x + std::int64_t{a.token_slot[t * a.used + j]} * a.n, i, a.n);
    for (int n = 0; n < 4; ++n) sum[n] = fma(weight, v[n], sum[n]);
  }
  store_four(a.y + t * a.n, sum, i, a.n);
}

}  // namespace

RF_KERNEL_WAVES(combine, CombineArgs, combine)
RF_EXPECT("combine", 48, load16)

}  // namespace rocmforge::gpu
