// Rows of the embedding table as the residual stream and as the first layer's product wants it
// (step_args.hpp): four values a thread.
#include "include/decode_row.hpp"
#include "include/step_output.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave, class Block>
RF_DEVICE void step_embed(const StepEmbedArgs& a) {
  const std::int64_t column = block_x();
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  const bool active = i < a.n;
  float v[4] = {};
  if (active) {
    const void* row = offset_bytes(a.table, token_of(a.token_ids[column], a.drawn) * a.row_bytes);
    RF_UNROLL
    for (int j = 0; j < 4; ++j) v[j] = decode_weight<Block>(row, i + j);
    store_four(a.y + column * a.n + i, v);
  }
  store_step_output<kWave>(a.out, column, a.n, i, v, active);
}

}  // namespace

#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  RF_KERNEL_VARIANT(step_embed, name, StepEmbedArgs, step_embed, quant::Block)
#include "quant/formats.def"
#undef RF_FORMAT
RF_EXPECT("step_embed_*", 64)

}  // namespace rocmforge::gpu
