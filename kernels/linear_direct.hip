// Y = X W^T on matrix cores for 5 to 64 columns: a lane decodes the chunks it has loaded straight
// into its share of the operands; no weight passes through shared memory. Lanes that share a row
// have a chunk of it each; the order in which values of the shared dimension meet is that of the
// chunks, for which rf_to_tiles has put the activations so that a lane loads its part at once. They
// are copied to shared memory as they are, for the waves of a block, which share rows and columns
// out or take the depth in turns. The sums of those are added at the end.
//
// Bytes alone would take 15 us of an H200 for 28672 x 4096 weights of Q4_K, the instructions that
// select bytes and convert, at half rate, 17; measured 43 us with 16 columns, 55 with 32 and 92
// with
// 64. The gap is not explained yet. Activations read from memory by every wave cost 54, 95 and 160:
// their latency stood before every product.
//
// The error is linear_mma's.
#include "include/decode_row.hpp"
#include "include/mma_tiles.hpp"

#if RF_HAS_MMA

namespace rocmforge::gpu {
namespace {

template <int kWave, class Block>
struct RowStream {
  using Parts = Chunks<Block>;
  using Share = MmaShare<kWave>;
  static constexpr int kChunkWeights = Parts::kPieces * 16;
  static constexpr int kBlockWeights = quant::BlockTraits<Block>::kWeights;
  const void* row[Share::kRows];  // beyond the last one: the last one
  int num_chunks;
  typename Parts::Raw raw[Share::kRows];

  RF_DEVICE RowStream(const LinearDirectArgs& a, int first_row) {
    num_chunks = a.k / kChunkWeights;
    RF_UNROLL
    for (int r = 0; r < Share::kRows; ++r) {
      const int index = first_row + Share::row(thread_index() % kWave, r);
      row[r] = offset_bytes(a.w, (index < a.rows ? index : a.rows - 1) * a.row_bytes);
    }
  }
  RF_DEVICE bool has_chunk(int step) const {
    return step * Share::kLanes + Share::number(thread_index() % kWave) < num_chunks;
  }
  // The lane's chunk of a step; lanes without one get the first.
  RF_DEVICE int chunk_of(int step) const {
    return has_chunk(step) ? step * Share::kLanes + Share::number(thread_index() % kWave) : 0;
  }
  RF_DEVICE void fetch(int step) {
    const int chunk = chunk_of(step);
    RF_UNROLL
    for (int r = 0; r < Share::kRows; ++r)
      raw[r] =
          Parts::fetch(block_of<Block>(row[r], chunk / Parts::kPerBlock), chunk % Parts::kPerBlock);
  }
  // Weights of a chunk that is not there are 0.
  RF_DEVICE void unpack(typename Parts::Type* values, int step) const {
    RF_UNROLL
    for (int r = 0; r < Share::kRows; ++r) {
      values[r] = Parts::unpack(raw[r], chunk_of(step) % Parts::kPerBlock);
      if (has_chunk(step)) continue;
      for (float& scale : values[r].scale) scale = 0.0f;
      for (float& min : values[r].min) min = 0.0f;
    }
  }
  // The tile of piece p of a step.
  RF_DEVICE static int tile_of(int step, int p) {
    const int chunk = step * Share::kLanes + Share::number(thread_index() % kWave);
    return (chunk / Parts::kPerBlock * kBlockWeights + Parts::offset(chunk % Parts::kPerBlock, p)) /
           16;
  }
};

template <int kWave, class Block, int kColumns>
struct DirectShape {
  static constexpr int kDepthWaves = direct_depth_waves(kColumns);
  using Stream = RowStream<kWave, Block>;
  static constexpr int kColumnTiles = kColumns / kMmaSize,
                       kRowWaves = kThreads / kWave / kDepthWaves;
  // Of a step of the block, which are neighbours.
  static constexpr int kTiles = kDepthWaves * Stream::Share::kLanes * Stream::kChunkWeights / 16;
  static_assert(kDepthWaves * Stream::Share::kLanes > 1);  // pairs of chunks interleave
  static constexpr int kWords = kColumnTiles * kTiles * 128;
  // What 48 KiB hold.
  static constexpr int kBuffers = 2 * kWords * 4 <= 49152 ? 2 : 1;
  static constexpr int kCopies = kWords / 4 / kThreads;
  static constexpr int kOthers = kRowWaves * kWave;  // threads of one part of the depth
  static constexpr int kSums = (kDepthWaves - 1) * kOthers * kColumnTiles * MmaSums<kWave>::kCount;
  static_assert(kWords % (4 * kThreads) == 0 && kSums <= kBuffers * kWords);
};

// The tiles of a step that a thread copies.
template <class S>
struct TileStream {
  AsyncCopy copies[S::kCopies];

  RF_DEVICE static int piece(int i) { return thread_index() + i * kThreads; }
  RF_DEVICE void start(std::uint32_t* to, const std::uint32_t* x, int first_tile, int row_tiles) {
    RF_UNROLL
    for (int i = 0; i < S::kCopies; ++i) {
      const int tile = first_tile + piece(i) / 32 % S::kTiles, group = piece(i) / 32 / S::kTiles;
      copies[i].start(to + piece(i) * 4, x + (group * row_tiles + tile) * 128 + piece(i) % 32 * 4,
                      tile < row_tiles);
    }
    end_copies();
  }
  RF_DEVICE void finish(std::uint32_t* to) const {
    RF_UNROLL
    for (int i = 0; i < S::kCopies; ++i) copies[i].finish(to + piece(i) * 4);
    finish_copies<0>();
  }
};

template <int kWave, class Block, int kColumns>
RF_DEVICE void linear_direct(const LinearDirectArgs& a) {
  using S = DirectShape<kWave, Block, kColumns>;
  constexpr int kDepthWaves = S::kDepthWaves;
  using Stream = typename S::Stream;
  using Share = typename Stream::Share;
  constexpr int kCount = MmaSums<kWave>::kCount;
  RF_SHARED(Words4, shared, S::kBuffers * S::kWords / 4);
  auto* const buffers = reinterpret_cast<std::uint32_t*>(shared);
  const int num_columns = *a.num_columns, first_column = block_x() * kColumns;
  if (first_column >= num_columns) return;
  const int wave = uniform(thread_index() / kWave), lane = thread_index() % kWave;
  const int depth = wave / S::kRowWaves;
  const int first_row = (block_y() * S::kRowWaves + wave % S::kRowWaves) * kMmaSize;
  const int row_tiles = a.k / 16;
  const auto* x =
      static_cast<const std::uint32_t*>(a.x) + std::int64_t{first_column / 16} * row_tiles * 128;

  Stream stream(a, first_row);
  TileStream<S> tiles;
  MmaSums<kWave> sums[S::kColumnTiles] = {};
  const int steps = (row_tiles + S::kTiles - 1) / S::kTiles;
  tiles.start(buffers, x, 0, row_tiles);
  stream.fetch(depth);
  for (int step = 0; step < steps; ++step) {
    const int mine = step * kDepthWaves + depth;
    std::uint32_t* const buffer = buffers + step % S::kBuffers * S::kWords;
    std::uint32_t* const next = buffers + (step + 1) % S::kBuffers * S::kWords;
    tiles.finish(buffer);
    barrier();
    if (S::kBuffers > 1 && step + 1 < steps)
      tiles.start(next, x, (step + 1) * S::kTiles, row_tiles);
    typename Stream::Parts::Type values[Share::kRows];
    stream.unpack(values, mine);
    if (step + 1 < steps) stream.fetch(mine + kDepthWaves);
    RF_UNROLL
    for (int p = 0; p < Stream::Parts::kPieces; ++p) {
      const int tile = Stream::tile_of(mine, p);
      const std::uint32_t* words = buffer + (tile - step * S::kTiles) * 128;
      std::uint32_t w[Share::kRows][8];
      RF_UNROLL
      for (int r = 0; r < Share::kRows; ++r) round_piece<Block>(w[r], values[r], p);
      RF_UNROLL
      for (int i = 0; i < 16 / Share::kValues; ++i) {
        const MmaOperand<kWave> operand = Share::operand(w, i);
        RF_UNROLL
        for (int c = 0; c < S::kColumnTiles; ++c)
          multiply_add<Bf16>(sums[c], Share::load(words + c * S::kTiles * 128, tile, i), operand);
      }
    }
    if (S::kBuffers == 1 && step + 1 < steps) {
      barrier();
      tiles.start(next, x, (step + 1) * S::kTiles, row_tiles);
    }
  }

  barrier();
  float* mine = reinterpret_cast<float*>(shared) + thread_index() % S::kOthers;
  if (depth > 0) {
    RF_UNROLL
    for (int c = 0; c < S::kColumnTiles; ++c) RF_UNROLL
    for (int i = 0; i < kCount; ++i)
      mine[(((depth - 1) * S::kColumnTiles + c) * kCount + i) * S::kOthers] = sums[c].v[i];
  }
  barrier();
  if (depth > 0) return;
  RF_UNROLL
  for (int c = 0; c < S::kColumnTiles; ++c) RF_UNROLL
  for (int i = 0; i < kCount; ++i) {
    float sum = sums[c].v[i];
    RF_UNROLL
    for (int d = 0; d < kDepthWaves - 1; ++d)
      sum += mine[((d * S::kColumnTiles + c) * kCount + i) * S::kOthers];
    const int column = first_column + c * kMmaSize + MmaMap<kWave>::row(lane, i);
    const int row = first_row + MmaMap<kWave>::column(lane, i);
    if (column < num_columns && row < a.rows) a.y[column * a.y_stride + row] = sum;
  }
}

}  // namespace

#define RF_LINEAR_DIRECT_kQ8x32(name, Block)                                          \
  RF_KERNEL_LARGE_VARIANT(linear_direct, name##_c16, LinearDirectArgs, linear_direct, \
                          quant::Block, 16)                                           \
  RF_KERNEL_LARGE_VARIANT(linear_direct, name##_c32, LinearDirectArgs, linear_direct, \
                          quant::Block, 32)
#define RF_LINEAR_DIRECT_kFloat(name, Block)
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  RF_LINEAR_DIRECT_##activation(name, Block)
#include "quant/formats.def"
#undef RF_FORMAT
RF_EXPECT("linear_direct_*", 256, mma, load16)

}  // namespace rocmforge::gpu

#endif
