// Weights as bf16, for products that take them so: a thread a chunk. The chunks of a wave are
// neighbours in the result and go there through shared memory, so that every store of the wave is
// of neighbouring pieces: what a thread has itself lies 128 bytes from what the next one has, and
// written so costs four times as much. Memory bound.
#include "include/decode_row.hpp"
#include "include/mma_tiles.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave, class Block>
RF_DEVICE void dequantize(const DequantizeArgs& a) {
  using Parts = Chunks<Block>;
  constexpr int kBlockWeights = quant::BlockTraits<Block>::kWeights;
  constexpr int kChunkPieces = Parts::kPieces * 2;  // of 16 bytes
  static_assert(kWave % Parts::kPerBlock == 0);
  RF_SHARED(Words4, shared, kThreads * kChunkPieces);
  const int lane = thread_index() % kWave, wave = thread_index() / kWave;
  Words4* const mine = shared + wave * kWave * kChunkPieces;
  // Neighbours differ in where pieces of the same number lie.
  const auto place = [](int piece) { return piece ^ piece / 8 % 8; };

  const int row_chunks = a.k / (Parts::kPieces * 16);
  const int first = block_x() * kThreads + wave * kWave;  // of the wave
  const int chunks = a.rows * row_chunks, number = first + lane;
  if (number < chunks) {
    const int row = number / row_chunks, chunk = number % row_chunks;
    const int part = chunk % Parts::kPerBlock;
    const void* weights = offset_bytes(a.w, row * a.row_bytes);
    const auto values = Parts::load(block_of<Block>(weights, chunk / Parts::kPerBlock), part);
    const int begin = lane / Parts::kPerBlock * kBlockWeights;
    RF_UNROLL
    for (int p = 0; p < Parts::kPieces; ++p) {
      std::uint32_t words[8];
      round_piece<Block>(words, values, p);
      const int piece = (begin + Parts::offset(part, p)) / 8;
      store16(mine + place(piece), {{words[0], words[1], words[2], words[3]}});
      store16(mine + place(piece + 1), {{words[4], words[5], words[6], words[7]}});
    }
  }
  wave_barrier<kWave>();
  auto* const y = static_cast<Words4*>(a.y) + std::int64_t{first} * kChunkPieces;
  const int pieces = (chunks - first) * kChunkPieces;
  RF_UNROLL
  for (int i = 0; i < kChunkPieces; ++i) {
    const int piece = i * kWave + lane;
    if (piece < pieces) store16(y + piece, mine[place(piece)]);
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
