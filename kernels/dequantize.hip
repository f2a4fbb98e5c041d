// Weights as bf16, for products that take them so: a thread a chunk. Memory bound.
#include "include/decode_row.hpp"
#include "include/mma_tiles.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave, class Block>
RF_DEVICE void dequantize(const DequantizeArgs& a) {
  using Parts = Chunks<Block>;
  constexpr int kBlockWeights = quant::BlockTraits<Block>::kWeights;
  const int row_chunks = a.k / (Parts::kPieces * 16);
  const int number = block_x() * kThreads + thread_index();
  const int row = number / row_chunks, chunk = number % row_chunks;
  if (row >= a.rows) return;
  const int block = chunk / Parts::kPerBlock, part = chunk % Parts::kPerBlock;
  const void* weights = offset_bytes(a.w, row * a.row_bytes);
  const auto values = Parts::load(block_of<Block>(weights, block), part);
  char* y = static_cast<char*>(a.y) + (row * std::int64_t{a.k} + block * kBlockWeights) * 2;
  for (int p = 0; p < Parts::kPieces; ++p) {
    std::uint32_t words[8];
    round_piece<Parts>(words, values, p);
    char* piece = y + Parts::offset(part, p) * 2;
    store16(piece, {{words[0], words[1], words[2], words[3]}});
    store16(piece + 16, {{words[4], words[5], words[6], words[7]}});
  }
}

}  // namespace

#define RF_DEQUANTIZE_kQ8x32(name, Block) \
  RF_KERNEL_VARIANT(dequantize, name, DequantizeArgs, dequantize, quant::Block)
#define RF_DEQUANTIZE_kFloat(name, Block)
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  RF_DEQUANTIZE_##activation(name, Block)
#include "quant/formats.def"
#undef RF_FORMAT
RF_EXPECT("dequantize_*", 96)

}  // namespace rocmforge::gpu
