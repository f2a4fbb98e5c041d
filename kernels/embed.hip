// Rows of the embedding table, gathered and decoded. Reads the rows' bytes and writes 4 bytes a
// value: the writes are the cost.
#include "include/decode_row.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave, class Block>
RF_DEVICE void embed(const EmbedArgs& a) {
  const std::int64_t t = block_x();
  if (t >= *a.num_tokens) return;
  const void* row = offset_bytes(a.table, token_of(a.token_ids[t], a.drawn) * a.row_bytes);
  const int begin = block_y() * static_cast<int>(kRowPiece);
  for (int j = 0; j < 4; ++j) {
    const int i = begin + j * kThreads + thread_index();
    if (i < a.n) a.y[t * a.n + i] = decode_weight<Block>(row, i);
  }
}

}  // namespace

#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  RF_KERNEL_VARIANT(embed, name, EmbedArgs, embed, quant::Block)
#include "quant/formats.def"
#undef RF_FORMAT
RF_EXPECT("embed_*", 64)

}  // namespace rocmforge::gpu
