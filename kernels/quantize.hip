// Activations to 8 bits with a scale for every 32 (args.hpp: Q8Scale).
#include "include/quantize_values.hpp"
#include "include/row_piece.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void quantize(const QuantizeArgs& a) {
  const std::int64_t row = block_x();
  if (row >= *a.num_rows) return;
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  float v[4] = {};
  if (i < a.n) load_four(v, a.x + row * a.n, i, a.n);
  store_quantized<kWave>(static_cast<char*>(a.y) + row * q8_row_bytes(a.n), a.n, i, v, i < a.n);
}

}  // namespace

RF_KERNEL_WAVES(quantize, QuantizeArgs, quantize)
RF_EXPECT("quantize", 32, load16)

}  // namespace rocmforge::gpu
