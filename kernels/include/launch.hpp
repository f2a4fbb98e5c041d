// Blocks and grids: how each kernel of args.hpp must be launched. `max_*` is the most rows, tokens
// or columns the launch may meet; the count in device memory may be less. Checked by nobody on the
// device.
#pragma once

#include <cstdint>

#include "args.hpp"

namespace rocmforge::gpu {

// Threads of a block, where a kernel has no number of its own.
constexpr int kThreads = 256;

struct Grid {
  std::int64_t x = 1, y = 1, z = 1;
};

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Floats of a row that one block of the row-wise kernels handles: four a thread.
constexpr std::int64_t kRowPiece = kThreads * 4;

// embed, silu_mul, silu_mul_q8, quantize, to_bf16, add, add_bias, gather_rows, combine
constexpr Grid row_grid(std::int64_t max_rows, std::int64_t n) {
  return {max_rows, ceil_div(n, kRowPiece)};
}
// rms_norm, rms_norm_q8: a block a row
constexpr Grid norm_grid(std::int64_t max_rows) { return {max_rows}; }
// rms_norm_heads, rope: a wave a head
constexpr Grid heads_grid(std::int64_t max_rows, std::int64_t heads, int wave) {
  return {max_rows, ceil_div(heads, kThreads / wave)};
}
// route: a wave a token
constexpr Grid route_grid(std::int64_t max_tokens, int wave) {
  return {ceil_div(max_tokens, kThreads / wave)};
}
constexpr Grid sort_slots_grid() { return {}; }
constexpr Grid rope_angles_grid(std::int64_t max_tokens, std::int64_t half) {
  return {max_tokens, ceil_div(half, kThreads)};
}
// a wave a row of keys or values
constexpr Grid store_kv_grid(std::int64_t max_tokens, std::int64_t kv_heads, int wave) {
  return {max_tokens, ceil_div(2 * kv_heads, kThreads / wave)};
}

// A wave a row of weights; `c` columns a block.
constexpr Grid linear_grid(std::int64_t rows, std::int64_t max_columns, int c, int wave) {
  return {ceil_div(rows, kThreads / wave), ceil_div(max_columns, c)};
}
constexpr std::int64_t kTileRows = 64;
constexpr std::int64_t kTileColumns = 64;
// max_columns: of one matrix
constexpr Grid linear_tile_grid(std::int64_t rows, std::int64_t max_columns,
                                std::int64_t matrices) {
  return {ceil_div(rows, kTileRows), ceil_div(max_columns, kTileColumns), matrices};
}

// c of kMmaColumns; neighbouring blocks share weights. max_columns: of one matrix
constexpr std::int64_t mma_rows(int c) { return 2 * c; }
constexpr Grid linear_mma_grid(std::int64_t rows, std::int64_t max_columns, int c,
                               std::int64_t matrices) {
  return {ceil_div(max_columns, c), ceil_div(rows, mma_rows(c)), matrices};
}

// Of linear_direct with c columns a block: this many of its waves share rows and take the depth in
// turns, as many as shared memory has activations for: that there are blocks for every
// multiprocessor counts most.
constexpr int direct_depth_waves(int c) { return c == 16 ? 4 : 2; }
// c of kDirectColumns; neighbouring blocks share weights.
constexpr Grid linear_direct_grid(std::int64_t rows, std::int64_t max_columns, int c, int wave) {
  return {ceil_div(max_columns, c), ceil_div(rows, kThreads / wave / direct_depth_waves(c) * 16)};
}
// to_tiles: a block 16 columns by 64 values
constexpr Grid to_tiles_grid(std::int64_t max_columns, std::int64_t k) {
  return {ceil_div(max_columns, 32) * 2, ceil_div(k, 64)};
}

// 32 weights a thread: with formats that are decoded 64 at once half of the blocks have nothing to
// do
constexpr Grid dequantize_grid(std::int64_t rows, std::int64_t k) {
  return {ceil_div(rows * (k / 32), kThreads)};
}
constexpr std::int64_t kGemmColumns = 128;
// r of kGemmRows
constexpr Grid gemm_grid(std::int64_t rows, std::int64_t max_columns, int r) {
  return {ceil_div(max_columns, kGemmColumns), ceil_div(rows, r)};
}

// Query tokens of one block of rf_attend_prefill.
constexpr std::int64_t kAttendRows = 16;
// Every sequence may end with a tile that is not full.
constexpr Grid attend_prefill_grid(std::int64_t max_tokens, std::int64_t max_seqs,
                                   std::int64_t heads) {
  return {max_tokens / kAttendRows + max_seqs, heads};
}
// Sixteen tokens a wave.
constexpr Grid attend_mma_grid(std::int64_t max_tokens, std::int64_t max_seqs, std::int64_t heads,
                               int wave) {
  return {max_tokens / (kThreads / wave * 16) + max_seqs, heads};
}
// g: query heads at once, of heads / kv_heads
constexpr Grid attend_decode_grid(std::int64_t max_tokens, std::int64_t heads,
                                  std::int64_t kv_heads, std::int64_t splits, int g) {
  return {max_tokens, kv_heads * ceil_div(heads / kv_heads, g), splits};
}
constexpr Grid attend_combine_grid(std::int64_t max_tokens, std::int64_t heads) {
  return {max_tokens, heads};
}

// sample_top, sample_draw
constexpr Grid sample_grid(std::int64_t rows, std::int64_t n) {
  return {ceil_div(n, kSampleSlice), rows};
}

// --- fused stages: as many columns as there are tokens

// step_input, step_embed
constexpr Grid step_input_grid(std::int64_t columns, std::int64_t n) {
  return row_grid(columns, n);
}
// Rows of a wave, and of a block, that c columns share.
constexpr int step_project_rows(int c) { return c == 1 ? 4 : 2; }
constexpr int step_project_block(int c, int wave) { return kThreads / wave * step_project_rows(c); }
constexpr Grid step_project_grid(std::int64_t first_rows, std::int64_t second_rows,
                                 std::int64_t third_rows, std::int64_t columns, int c, int wave) {
  const int n = step_project_block(c, wave);
  return {ceil_div(first_rows, n) + ceil_div(second_rows, n) + ceil_div(third_rows, n),
          ceil_div(columns, c)};
}
// Rows of a block of step_gate_up (of each matrix) and step_residual: a group of quantized values.
constexpr int kStepGroupRows = 32;
constexpr int kStepGateUpThreads = 256;
constexpr int kStepResidualThreads = 512;
constexpr Grid step_rows_grid(std::int64_t rows, std::int64_t columns, int c) {
  return {rows / kStepGroupRows, ceil_div(columns, c)};
}
// step_attend: g query heads at once, of heads / kv_heads
constexpr Grid step_attend_grid(std::int64_t tokens, std::int64_t heads, std::int64_t kv_heads,
                                std::int64_t splits, int g) {
  return attend_decode_grid(tokens, heads, kv_heads, splits, g);
}

}  // namespace rocmforge::gpu
