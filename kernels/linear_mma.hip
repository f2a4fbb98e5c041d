// Y = X W^T on matrix cores, weights decoded once a tile: a block computes kRows rows of W by
// kColumns columns, in steps of kDepth that always are 16384 weights, 64 a thread: one chunk (or
// two of 32). While the waves multiply, the next step's loads are on their way. Waves share out
// rows, columns and the depth of a step; sums of the same results are added at the end.
//
// Weights are rounded to bf16 from float32, activations come as bf16: of S = sum |w x| that is
// 2^-8 * S; and k additions in float32, in which matrix cores may cut off instead of rounding:
// |error| <= (2^-8 + k * 2^-23) * S.
#include "include/mma_tiles.hpp"

#include "include/decode_row.hpp"

#if RF_HAS_MMA

namespace rocmforge::gpu {
namespace {

constexpr int kStepWeights = 16384;

template <int kWave, int kColumnCount>
struct Shape {
  static constexpr int kColumns = kColumnCount, kRows = static_cast<int>(mma_rows(kColumns));
  static constexpr int kDepth = kStepWeights / kRows;
  static constexpr int kWaves = kThreads / kWave;
  static constexpr int kColumnWaves = kColumns > 32 ? 2 : 1;
  static constexpr int kRowWaves = kColumns > 32 ? kWaves / 2 : kColumns > 16 ? 2 : 1;
  static constexpr int kDepthWaves = kWaves / (kRowWaves * kColumnWaves);
  // 16 x 16 tiles of a wave.
  static constexpr int kRowTiles = kRows / kMmaSize / kRowWaves;
  static constexpr int kColumnTiles = kColumns / kMmaSize / kColumnWaves;
  static constexpr int kWaveSums = kRowTiles * kColumnTiles * kMmaSize * kMmaSize;

  using Weights = MmaTile<kRows, kDepth>;
  using Columns = MmaTile<kColumns, kDepth>;
  static_assert((kWaves - kRowWaves * kColumnWaves) * kWaveSums * 4 <= sizeof(Weights));
};

struct Place {
  int first_row, first_column, end_column;
  const void* weights;  // of the matrix
};

// False if the block has no columns.
template <class S>
RF_DEVICE bool locate(Place& place, const LinearMmaArgs& a) {
  const int matrix = block_z();
  int begin = 0;
  place.end_column = *a.num_columns;
  if (a.matrix_begin) {
    begin = a.matrix_begin[matrix];
    place.end_column = a.matrix_begin[matrix + 1];
  }
  place.first_row = block_y() * S::kRows;
  place.first_column = begin + block_x() * S::kColumns;
  place.weights = offset_bytes(a.w, matrix * a.matrix_bytes);
  return place.first_column < place.end_column;
}

// The chunks of a thread in a step.
template <class S, class Block>
struct WeightStream {
  using Parts = Chunks<Block>;
  static constexpr int kChunkWeights = Parts::kPieces * 16;
  static constexpr int kChunks = kStepWeights / kThreads / kChunkWeights;
  static constexpr int kRowChunks = S::kDepth / kChunkWeights;
  static constexpr int kBlockWeights = quant::BlockTraits<Block>::kWeights;
  typename Parts::Raw raw[kChunks];

  RF_DEVICE static int row_of(int i) { return (thread_index() + i * kThreads) / kRowChunks; }
  // Its number in the row, the step beginning at `depth`.
  RF_DEVICE static int chunk_of(int i, int depth) {
    return depth / kChunkWeights + (thread_index() + i * kThreads) % kRowChunks;
  }
  RF_DEVICE static bool inside(int i, int depth, const Place& place, const LinearMmaArgs& a) {
    return place.first_row + row_of(i) < a.rows && chunk_of(i, depth) * kChunkWeights < a.k;
  }

  RF_DEVICE void fetch(int depth, const Place& place, const LinearMmaArgs& a) {
    for (int i = 0; i < kChunks; ++i) {
      if (!inside(i, depth, place, a)) continue;
      const int chunk = chunk_of(i, depth);
      const void* row = offset_bytes(place.weights, (place.first_row + row_of(i)) * a.row_bytes);
      raw[i] =
          Parts::fetch(block_of<Block>(row, chunk / Parts::kPerBlock), chunk % Parts::kPerBlock);
    }
  }

  RF_DEVICE void store(typename S::Weights& tile, int depth, const Place& place,
                       const LinearMmaArgs& a) const {
    for (int i = 0; i < kChunks; ++i) {
      const int chunk = chunk_of(i, depth), part = chunk % Parts::kPerBlock;
      const bool is_inside = inside(i, depth, place, a);
      const int begin = chunk / Parts::kPerBlock * kBlockWeights - depth;
      typename Parts::Type values{};
      if (is_inside) values = Parts::unpack(raw[i], part);
      for (int p = 0; p < Parts::kPieces; ++p) {
        std::uint32_t words[8];
        round_piece<Block>(words, values, p);
        const int piece = (begin + Parts::offset(part, p)) / 8;
        store16(tile.at(row_of(i), piece), {{words[0], words[1], words[2], words[3]}});
        store16(tile.at(row_of(i), piece + 1), {{words[4], words[5], words[6], words[7]}});
      }
    }
  }
};

// The pieces of activations of a thread in a step.
template <class S>
struct ColumnStream {
  static constexpr int kRowPieces = S::kDepth / 8;
  static constexpr int kCount = S::kColumns * kRowPieces / kThreads;
  static constexpr int kColumnsApart = kThreads / kRowPieces;  // of one thread's pieces
  static_assert(kThreads % kRowPieces == 0);
  std::int64_t from[kCount];  // offset in bytes; below 0: no such column
  Words4 words[kCount];

  RF_DEVICE static int column_of(int i) { return thread_index() / kRowPieces + i * kColumnsApart; }
  RF_DEVICE ColumnStream(const Place& place, const LinearMmaArgs& a) {
    for (int i = 0; i < kCount; ++i) {
      const int column = place.first_column + column_of(i);
      from[i] = -1;
      if (column >= place.end_column) continue;
      const std::int64_t row = a.column_row ? a.column_row[column] : column;
      from[i] = row * a.x_stride * 2;
    }
  }
  RF_DEVICE void fetch(int depth, const LinearMmaArgs& a) {
    const int k = depth + thread_index() % kRowPieces * 8;
    for (int i = 0; i < kCount; ++i) {
      words[i] = {};
      if (from[i] >= 0 && k < a.k) words[i] = load16(offset_bytes(a.x, from[i] + k * 2));
    }
  }
  RF_DEVICE void store(typename S::Columns& tile) const {
    for (int i = 0; i < kCount; ++i)
      store16(tile.at(column_of(i), thread_index() % kRowPieces), words[i]);
  }
};

// Which part of a step's product is a wave's.
template <class S, int kWave>
struct WavePart {
  int row, column, depth;  // the first row and column in the tile; the first step of 16

  RF_DEVICE WavePart() {
    const int wave = uniform(thread_index() / kWave);
    row = wave % S::kRowWaves * S::kRowTiles * kMmaSize;
    column = wave / S::kRowWaves % S::kColumnWaves * S::kColumnTiles * kMmaSize;
    depth = wave / (S::kRowWaves * S::kColumnWaves);
  }
};

template <int kWave, class S>
using Sums = MmaSums<kWave>[S::kColumnTiles][S::kRowTiles];

template <int kWave, class S>
RF_DEVICE void multiply_step(Sums<kWave, S>& sums, typename S::Weights& weights,
                             typename S::Columns& columns, const WavePart<S, kWave>& part) {
  for (int i = 0; i < S::kDepth / kMmaSize / S::kDepthWaves; ++i) {
    const int step = part.depth + i * S::kDepthWaves;
    MmaOperand<kWave> x[S::kColumnTiles];
    for (int c = 0; c < S::kColumnTiles; ++c)
      x[c] = columns.template operand<kWave>(part.column + c * kMmaSize, step);
    for (int r = 0; r < S::kRowTiles; ++r) {
      const auto w = weights.template operand<kWave>(part.row + r * kMmaSize, step);
      for (int c = 0; c < S::kColumnTiles; ++c) multiply_add<Bf16>(sums[c][r], x[c], w);
    }
  }
}

// f(sum, number) for each of a lane's sums.
template <int kWave, class S, class F>
RF_DEVICE void for_each_sum(Sums<kWave, S>& sums, F f) {
  constexpr int kCount = MmaSums<kWave>::kCount;
  RF_UNROLL
  for (int c = 0; c < S::kColumnTiles; ++c) RF_UNROLL
  for (int r = 0; r < S::kRowTiles; ++r) RF_UNROLL
  for (int i = 0; i < kCount; ++i) f(sums[c][r].v[i], (c * S::kRowTiles + r) * kCount + i);
}

// Into the sums of the waves that have the first part of the depth.
template <int kWave, class S>
RF_DEVICE void add_depths(Sums<kWave, S>& sums, float* shared, const WavePart<S, kWave>& part) {
  constexpr int kOthers = S::kRowWaves * S::kColumnWaves * kWave;  // threads of one depth
  constexpr int kCount = S::kWaveSums / kWave;
  float* mine = shared + thread_index() % kOthers;
  if (part.depth > 0) {
    for_each_sum<kWave, S>(
        sums, [&](float& sum, int i) { mine[((part.depth - 1) * kCount + i) * kOthers] = sum; });
  }
  barrier();
  if (part.depth > 0) return;
  for (int d = 0; d < S::kDepthWaves - 1; ++d)
    for_each_sum<kWave, S>(sums,
                           [&](float& sum, int i) { sum += mine[(d * kCount + i) * kOthers]; });
}

template <int kWave, class S>
RF_DEVICE void store_sums(Sums<kWave, S>& sums, const WavePart<S, kWave>& part, const Place& place,
                          const LinearMmaArgs& a) {
  const int lane = thread_index() % kWave;
  for_each_sum<kWave, S>(sums, [&](float& sum, int number) {
    constexpr int kCount = MmaSums<kWave>::kCount;
    const int i = number % kCount, r = number / kCount % S::kRowTiles;
    const int c = number / kCount / S::kRowTiles;
    const int column =
        place.first_column + part.column + c * kMmaSize + MmaMap<kWave>::row(lane, i);
    const int row = place.first_row + part.row + r * kMmaSize + MmaMap<kWave>::column(lane, i);
    if (column < place.end_column && row < a.rows) a.y[column * a.y_stride + row] = sum;
  });
}

template <int kWave, class Block, int kColumns>
RF_DEVICE void linear_mma(const LinearMmaArgs& a) {
  using S = Shape<kWave, kColumns>;
  RF_SHARED(typename S::Weights, weights, 1);
  RF_SHARED(typename S::Columns, columns, 1);
  Place place;
  if (!locate<S>(place, a)) return;
  const WavePart<S, kWave> part;
  WeightStream<S, Block> weight_stream;
  ColumnStream<S> column_stream(place, a);
  Sums<kWave, S> sums = {};

  weight_stream.fetch(0, place, a);
  column_stream.fetch(0, a);
  for (int depth = 0; depth < a.k; depth += S::kDepth) {
    weight_stream.store(weights[0], depth, place, a);
    column_stream.store(columns[0]);
    barrier();
    if (depth + S::kDepth < a.k) {
      weight_stream.fetch(depth + S::kDepth, place, a);
      column_stream.fetch(depth + S::kDepth, a);
    }
    multiply_step<kWave, S>(sums, weights[0], columns[0], part);
    barrier();
  }
  if constexpr (S::kDepthWaves > 1) {
    add_depths<kWave, S>(sums, reinterpret_cast<float*>(&weights[0]), part);
    if (part.depth > 0) return;
  }
  store_sums<kWave, S>(sums, part, place, a);
}

}  // namespace

#define RF_LINEAR_MMA_kQ8x32(name, Block)                                                      \
  RF_KERNEL_LARGE_VARIANT(linear_mma, name##_c16, LinearMmaArgs, linear_mma, quant::Block, 16) \
  RF_KERNEL_LARGE_VARIANT(linear_mma, name##_c32, LinearMmaArgs, linear_mma, quant::Block, 32) \
  RF_KERNEL_LARGE_VARIANT(linear_mma, name##_c64, LinearMmaArgs, linear_mma, quant::Block, 64)
#define RF_LINEAR_MMA_kFloat(name, Block)
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  RF_LINEAR_MMA_##activation(name, Block)
#include "quant/formats.def"
#undef RF_FORMAT
RF_EXPECT("linear_mma_*", 256, mma, load16)

}  // namespace rocmforge::gpu

#endif
