// Y = X W^T for many columns, float activations: a block computes kTileRows rows by kTileColumns
// columns in steps of kDepth weights, which it decodes once into shared memory for all its columns;
// a thread owns 4 by 4 results. 2 * rows * columns * k operations on the vector units.
//
// Every result is one chain of FMAs over k: |error| <= k * 2^-24 * sum |w x|.
#include "include/decode_row.hpp"
#include "include/gpu.hpp"

namespace rocmforge::gpu {
namespace {

constexpr int kDepth = 32;
constexpr int kMine = 4;                       // rows and columns of a thread
constexpr int kAcross = kTileColumns / kMine;  // threads side by side
static_assert(kTileRows / kMine * kAcross == kThreads);
constexpr int kPitch = kTileRows + 4;  // of a step's row in shared memory
static_assert(kTileRows == kTileColumns);

struct Tile {
  int first_row, first_column;
  int end_column;
  const void* weights;  // of the matrix
};

// False if the block has no columns.
RF_DEVICE bool locate(Tile& tile, const LinearTileArgs& a) {
  const int matrix = block_z();
  int begin = 0;
  tile.end_column = *a.num_columns;
  if (a.matrix_begin) {
    begin = a.matrix_begin[matrix];
    tile.end_column = a.matrix_begin[matrix + 1];
  }
  tile.first_row = block_x() * static_cast<int>(kTileRows);
  tile.first_column = begin + block_y() * static_cast<int>(kTileColumns);
  tile.weights = offset_bytes(a.w, matrix * a.matrix_bytes);
  return tile.first_column < tile.end_column;
}

// shared[d][row] = the weights [depth, depth + kDepth) of the tile's rows; 0 outside the matrix.
template <class Block>
RF_DEVICE void fetch_weights(float* shared, const LinearTileArgs& a, const Tile& tile, int depth) {
  constexpr int kRun = kTileRows * kDepth / kThreads;  // of one row
  const int row = thread_index() / (kDepth / kRun), first = thread_index() % (kDepth / kRun) * kRun;
  const bool inside = tile.first_row + row < a.rows;
  const void* weights = offset_bytes(tile.weights, (tile.first_row + row) * a.row_bytes);
  for (int i = 0; i < kRun; ++i) {
    const int k = depth + first + i;
    shared[(first + i) * kPitch + row] =
        inside && k < a.k ? decode_weight<Block>(weights, k) : 0.0f;
  }
}

RF_DEVICE void fetch_columns(float* shared, const LinearTileArgs& a, const Tile& tile, int depth) {
  constexpr int kRun = kTileColumns * kDepth / kThreads;
  const int i = thread_index() / (kDepth / kRun), first = thread_index() % (kDepth / kRun) * kRun;
  const int column = tile.first_column + i;
  const bool inside = column < tile.end_column;
  const std::int64_t x_row = !inside ? 0 : a.column_row ? a.column_row[column] : column;
  const float* x = a.x + x_row * a.x_stride;
  for (int j = 0; j < kRun; ++j) {
    const int k = depth + first + j;
    shared[(first + j) * kPitch + i] = inside && k < a.k ? x[k] : 0.0f;
  }
}

template <int kWave, class Block>
RF_DEVICE void linear_tile(const LinearTileArgs& a) {
  RF_SHARED(float, weights, kDepth* kPitch);
  RF_SHARED(float, columns, kDepth* kPitch);
  Tile tile;
  if (!locate(tile, a)) return;
  const int my_row = thread_index() % kAcross * kMine, my_column = thread_index() / kAcross * kMine;

  float sums[kMine][kMine] = {};  // [column][row]
  for (int depth = 0; depth < a.k; depth += kDepth) {
    fetch_weights<Block>(weights, a, tile, depth);
    fetch_columns(columns, a, tile, depth);
    barrier();
    for (int d = 0; d < kDepth; ++d) {
      const Words4 w = load16(weights + d * kPitch + my_row);
      const Words4 x = load16(columns + d * kPitch + my_column);
      for (int c = 0; c < kMine; ++c)
        for (int r = 0; r < kMine; ++r)
          sums[c][r] = fma(quant::float_of_bits(w.v[r]), quant::float_of_bits(x.v[c]), sums[c][r]);
    }
    barrier();
  }
  for (int c = 0; c < kMine; ++c) {
    const int column = tile.first_column + my_column + c;
    for (int r = 0; r < kMine; ++r) {
      const int row = tile.first_row + my_row + r;
      if (column < tile.end_column && row < a.rows) a.y[column * a.y_stride + row] = sums[c][r];
    }
  }
}

}  // namespace

#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  RF_KERNEL_VARIANT(linear_tile, name, LinearTileArgs, linear_tile, quant::Block)
#include "quant/formats.def"
#undef RF_FORMAT
RF_EXPECT("linear_tile_*", 128)

}  // namespace rocmforge::gpu
