// Y = X W^T of bf16 matrices on matrix cores, for many columns: a block computes kGemmColumns
// columns by kRows rows of W in steps of kDepth, the tiles of the next step or two being copied
// into other buffers of shared memory meanwhile. float32 sums: |error| <= k * 2^-23 * sum |w x|.
#include "include/mma_tiles.hpp"

#include "include/decode_row.hpp"

#if RF_HAS_MMA

namespace rocmforge::gpu {
namespace {

constexpr int kDepth = 32;

template <int kWave, int kRowCount>
struct Shape {
  static constexpr int kRows = kRowCount, kColumns = static_cast<int>(kGemmColumns);
  static constexpr int kWaves = kThreads / kWave;
  static constexpr int kColumnWaves = 2, kRowWaves = kWaves / kColumnWaves;
  static constexpr int kRowTiles = kRows / kMmaSize / kRowWaves;
  static constexpr int kColumnTiles = kColumns / kMmaSize / kColumnWaves;
  using Weights = MmaTile<kRows, kDepth>;
  using Columns = MmaTile<kColumns, kDepth>;
};

// The pieces of 16 bytes of a tile that a thread copies: every kApart-th row from its first one on.
template <int kRows>
struct TileCopy {
  static constexpr int kPieces = kDepth / 8, kApart = kThreads / kPieces;
  static constexpr int kCount = kRows / kApart;
  using Tile = MmaTile<kRows, kDepth>;
  const char* from;
  std::int64_t stride;  // in bytes, of rows kApart apart
  int rows;             // of the thread that there are: the first ones
  AsyncCopy copies[kCount];

  RF_DEVICE TileCopy(const void* matrix, std::int64_t row_bytes, int first_row, int end_row) {
    const int row = first_row + thread_index() / kPieces;
    from = static_cast<const char*>(matrix) + row * row_bytes + thread_index() % kPieces * 16;
    stride = row_bytes * kApart;
    rows = row < end_row ? (end_row - row + kApart - 1) / kApart : 0;
  }
  RF_DEVICE static void* to(Tile& tile, int i) {
    return tile.at(thread_index() / kPieces + i * kApart, thread_index() % kPieces);
  }
  RF_DEVICE void start(Tile& tile, int depth, int k) {
    const bool inside = depth + thread_index() % kPieces * 8 < k;
    RF_UNROLL
    for (int i = 0; i < kCount; ++i)
      copies[i].start(to(tile, i), from + i * stride + depth * 2, inside && i < rows);
  }
  RF_DEVICE void finish(Tile& tile) {
    RF_UNROLL
    for (int i = 0; i < kCount; ++i) copies[i].finish(to(tile, i));
  }
};

template <int kWave, int kRowCount>
RF_DEVICE void gemm(const GemmArgs& a) {
  using S = Shape<kWave, kRowCount>;
  // What 48 KiB hold, and a step being multiplied.
  constexpr int kAhead = kCopiesAhead > 1 && kRowCount <= 128 ? 2 : 1, kBuffers = kAhead + 1;
  RF_SHARED(typename S::Weights, weights, kBuffers);
  RF_SHARED(typename S::Columns, columns, kBuffers);
  const int num_columns = *a.num_columns;
  const int first_column = block_x() * S::kColumns, first_row = block_y() * S::kRows;
  if (first_column >= num_columns) return;
  const int wave = uniform(thread_index() / kWave);
  const int my_row = wave % S::kRowWaves * S::kRowTiles * kMmaSize;
  const int my_column = wave / S::kRowWaves * S::kColumnTiles * kMmaSize;
  TileCopy<S::kRows> weight_copy(a.w, a.k * std::int64_t{2}, first_row, a.rows);
  TileCopy<S::kColumns> column_copy(a.x, a.x_stride * 2, first_column, num_columns);

  MmaSums<kWave> sums[S::kColumnTiles][S::kRowTiles] = {};
  const auto start = [&](int depth) {
    const int buffer = depth / kDepth % kBuffers;
    if (depth < a.k) {
      weight_copy.start(weights[buffer], depth, a.k);
      column_copy.start(columns[buffer], depth, a.k);
    }
    end_copies();
  };
  for (int i = 0; i < kAhead; ++i) start(i * kDepth);
  for (int depth = 0; depth < a.k; depth += kDepth) {
    const int buffer = depth / kDepth % kBuffers;
    weight_copy.finish(weights[buffer]);
    column_copy.finish(columns[buffer]);
    finish_copies<kAhead - 1>();
    barrier();
    start(depth + kAhead * kDepth);
    RF_UNROLL
    for (int step = 0; step < kDepth / kMmaSize; ++step) {
      MmaOperand<kWave> x[S::kColumnTiles];
      RF_UNROLL
      for (int c = 0; c < S::kColumnTiles; ++c)
        x[c] = columns[buffer].template operand<kWave>(my_column + c * kMmaSize, step);
      RF_UNROLL
      for (int r = 0; r < S::kRowTiles; ++r) {
        const auto w = weights[buffer].template operand<kWave>(my_row + r * kMmaSize, step);
        RF_UNROLL
        for (int c = 0; c < S::kColumnTiles; ++c) multiply_add<Bf16>(sums[c][r], x[c], w);
      }
    }
  }

  const int lane = thread_index() % kWave;
  RF_UNROLL
  for (int c = 0; c < S::kColumnTiles; ++c) {
    RF_UNROLL
    for (int r = 0; r < S::kRowTiles; ++r) {
      RF_UNROLL
      for (int i = 0; i < MmaSums<kWave>::kCount; ++i) {
        const int column = first_column + my_column + c * kMmaSize + MmaMap<kWave>::row(lane, i);
        const int row = first_row + my_row + r * kMmaSize + MmaMap<kWave>::column(lane, i);
        if (column < num_columns && row < a.rows) a.y[column * a.y_stride + row] = sums[c][r].v[i];
      }
    }
  }
}

}  // namespace

RF_KERNEL_LARGE_VARIANT(gemm, r128, GemmArgs, gemm, 128)
RF_KERNEL_HUGE_VARIANT(gemm, r256, GemmArgs, gemm, 256)
RF_EXPECT("gemm_*", 256, mma, load16)

}  // namespace rocmforge::gpu

#endif
