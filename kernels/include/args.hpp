// What a kernel is launched with: one plain struct a kernel, by value. Host code of any compiler
// includes this; nothing here knows a vendor.
//
// Conventions
// - A kernel is called rf_<operation>_w32 or _w64 by the wave size it was built for (RDNA and
// NVIDIA
//   32, gfx9 64; the host build has both), with the format or cache type before the wave size where
//   it is built for several: rf_linear_q8_Q4_K_c4_w32. launch.hpp has blocks and grids.
// - Pointers are device memory, at least 4-byte aligned; those to float, quantized activations,
//   weights and caches are 16-byte aligned, and so are strides where "16" is said. Weights must be
//   readable up to the next multiple of 16 bytes.
// - Whatever changes from step to step is read from device memory, so that a captured graph can be
//   replayed: token ids, positions, slots, lengths, tables and the counts `num_*`. A grid covers
//   the most there may be; what lies beyond the count does nothing. A count of 0 is allowed, an
//   empty grid is not.
// - Strides are in elements of the pointer's type, or in bytes for void.
// - Static shared memory only: the dynamic size of every launch is 0.
#pragma once

#include <cstdint>

namespace rocmforge::gpu {

// --- activations

// Activations quantized to 8 bits: per row k quants, then for every 32 of them a Q8Scale. Quants,
// scale and special cases are those of quant/activations.hpp.
struct Q8Scale {
  float d;                // a value is d * quant; NaN where a value was infinite or NaN
  std::int16_t low_sum;   // of the first 16 quants
  std::int16_t high_sum;  // of the last 16
};
static_assert(sizeof(Q8Scale) == 8);

// Bytes from one quantized row to the next: k % 32 == 0; a multiple of 16.
constexpr std::int64_t q8_row_bytes(std::int64_t k) { return (k + k / 32 * 8 + 15) / 16 * 16; }

// rf_embed_<format>: y[t] = row token_ids[t] of the table, decoded.
struct EmbedArgs {
  float* y;                       // [T, n]
  const void* table;              // [vocab, n] raw blocks
  const std::int32_t* token_ids;  // [T]; -(row + 1): the id of that row of `drawn`
  const std::int32_t* drawn;      // -1 where none could be drawn: any token then
  const std::int32_t* num_tokens;
  std::int64_t row_bytes;  // of the table
  std::int32_t n;
};

// rf_rms_norm: y = x / sqrt(mean(x^2) + eps) * weight; y may alias x.
// rf_rms_norm_q8: the same, quantized to `quantized` and, unless null, kept in y.
struct RmsNormArgs {
  float* y;                  // [R, n]
  void* quantized;           // [R] rows of q8_row_bytes(n), n % 32 == 0
  const float* x;            // [R, n] or [any, n]
  const float* weight;       // [n]
  const std::int32_t* rows;  // [R] of x; null: each its own. Then y does not alias x
  const std::int32_t* num_rows;
  std::int32_t n;
  float eps;
};

// rf_rms_norm_heads: every head of every row alone, in place.
struct RmsNormHeadsArgs {
  float* x;             // [R, row_stride], heads first
  const float* weight;  // [head_dim]
  const std::int32_t* num_rows;
  std::int64_t row_stride;
  std::int32_t heads;
  std::int32_t head_dim;
  float eps;
};

// rf_quantize
struct QuantizeArgs {
  void* y;         // [R] rows of q8_row_bytes(n), n % 32 == 0
  const float* x;  // [R, n]
  const std::int32_t* num_rows;
  std::int32_t n;
};

// rf_silu_mul: y[r, i] = silu(x[r, i]) * x[r, n + i].
// rf_silu_mul_q8: the same, quantized to `quantized`; y is not touched.
struct SiluMulArgs {
  float* y;         // [R, n]
  void* quantized;  // [R] rows of q8_row_bytes(n), n % 32 == 0
  const float* x;   // [R, 2 * n]
  const std::int32_t* num_rows;
  std::int32_t n;
};

// rf_add: y += x. rf_add_bias: every row of y += the one row x.
struct AddArgs {
  float* y;        // [R, n]
  const float* x;  // [R, n] or [n]
  const std::int32_t* num_rows;
  std::int32_t n;
};

// rf_gather_rows: y[i] = x[rows[i]]
struct GatherRowsArgs {
  float* y;                  // [R, n]
  const float* x;            // [any, n]
  const std::int32_t* rows;  // [R]
  const std::int32_t* num_rows;
  std::int32_t n;
};

// --- products

// y[c, r] = matrix m(c), row r . x[row(c)], for a few columns c. A part of a group (k of q, k, v)
// is a launch of its own whose y points at its first output; parts of one format that lie one
// behind the other in memory may be one launch. rf_linear_q8_<format>_c<C>: x quantized, every
// format of activation type kQ8x32. rf_linear_float_<format>_c<C>: x float, every format; the
// exactness reference. C of kLinearColumns columns share one reading of the weights; a column gets
// the same bits from every C. With column_matrix only C = 1.
struct LinearArgs {
  float* y;       // [columns, y_stride]
  const void* w;  // raw blocks [matrices, rows, k]
  const void* x;  // rows x_stride bytes apart (16): floats or q8_row_bytes(k)
  const std::int32_t* num_columns;
  const std::int32_t* column_matrix;  // [columns] m(c); null: 0
  const std::int32_t* column_row;     // [columns] row(c); null: c
  std::int64_t matrix_bytes;          // from one matrix to the next
  std::int64_t row_bytes;             // from one row of w to the next
  std::int64_t x_stride;
  std::int64_t y_stride;
  std::int32_t rows;
  std::int32_t k;
};
constexpr int kLinearColumns[] = {1, 4, 8};

// rf_linear_tile_<format>: the same product for many columns, float activations. Columns
// [matrix_begin[m], matrix_begin[m + 1]) belong to matrix m; null: all num_columns to matrix 0.
struct LinearTileArgs {
  float* y;        // [columns, y_stride]
  const void* w;   // raw blocks [matrices, rows, k]
  const float* x;  // rows x_stride floats apart
  const std::int32_t* num_columns;
  const std::int32_t* matrix_begin;  // [matrices + 1] or null
  const std::int32_t* column_row;    // [columns] row of x of a column; null: its own
  std::int64_t matrix_bytes;
  std::int64_t row_bytes;
  std::int64_t x_stride;
  std::int64_t y_stride;
  std::int32_t rows;
  std::int32_t k;
};

// rf_to_bf16: y = x, rounded to nearest and even.
struct ToBf16Args {
  void* y;         // [R, n] bf16
  const float* x;  // [R, n], n % 8 == 0
  const std::int32_t* num_rows;
  std::int32_t n;
};

// rf_linear_mma_<format>_c<C>: the same product on matrix cores, bf16 activations and weights
// rounded to bf16, float32 sums; formats of activation type kQ8x32; C columns of kMmaColumns a
// block. Where the target has no matrix cores these kernels do not exist. k % 32 == 0.
struct LinearMmaArgs {
  float* y;       // [columns, y_stride]
  const void* w;  // raw blocks [matrices, rows, k]
  const void* x;  // bf16, rows x_stride elements apart (8)
  const std::int32_t* num_columns;
  const std::int32_t* matrix_begin;  // [matrices + 1] or null
  const std::int32_t* column_row;    // [columns] row of x of a column; null: its own
  std::int64_t matrix_bytes;
  std::int64_t row_bytes;
  std::int64_t x_stride;
  std::int64_t y_stride;
  std::int32_t rows;
  std::int32_t k;
};
constexpr int kMmaColumns[] = {16, 32, 64};

// rf_to_tiles: columns of a product as rf_linear_direct reads them. Tiles of 16 columns by 16
// values, 512 bytes each in the target's own order (mma.hpp: MmaShare), by columns, then by values;
// as many as hold num_columns rounded up to 32, what is beyond the columns being 0.
struct ToTilesArgs {
  void* y;         // bf16
  const float* x;  // [columns, k], k % 16 == 0
  const std::int32_t* num_columns;
  std::int32_t k;
};

// rf_linear_direct_<format>_c<C>: rf_linear_mma's product for few columns, of one matrix; C columns
// of kDirectColumns a block. Where the target has no matrix cores these kernels do not exist.
struct LinearDirectArgs {
  float* y;       // [columns, y_stride]
  const void* w;  // raw blocks [rows, k]
  const void* x;  // rf_to_tiles
  const std::int32_t* num_columns;
  std::int64_t row_bytes;
  std::int64_t y_stride;
  std::int32_t rows;
  std::int32_t k;
};
constexpr int kDirectColumns[] = {16, 32};

// rf_dequantize_<format>: rows of weights rounded to bf16; formats of activation type kQ8x32; fewer
// than 2^31 weights.
struct DequantizeArgs {
  void* y;                 // bf16 [rows, k]
  const void* w;           // raw blocks
  std::int64_t row_bytes;  // of w
  std::int32_t rows;
  std::int32_t k;
};

// rf_gemm_r<R>: y[c, r] = w[r] . x[c] of bf16 matrices on matrix cores, R of kGemmRows rows of w a
// block. Where the target has no matrix cores these kernels do not exist. k % 8 == 0.
struct GemmArgs {
  float* y;       // [columns, y_stride]
  const void* w;  // bf16 [rows, k]
  const void* x;  // bf16, rows x_stride elements apart (8)
  const std::int32_t* num_columns;
  std::int64_t x_stride;
  std::int64_t y_stride;
  std::int32_t rows;
  std::int32_t k;
};
constexpr int kGemmRows[] = {128, 256};

// --- experts

// rf_route: softmax over the experts, the best `used` (ties: lowest index; NaN is the worst),
// weights renormalised to sum 1.
struct RouteArgs {
  std::int32_t* expert;  // [T, used], best first
  float* weight;         // [T, used]
  const float* logits;   // [T, experts]
  const std::int32_t* num_tokens;
  std::int32_t experts;
  std::int32_t used;
};

// rf_sort_slots: slots ordered by expert, then token, as ops/backend.hpp's Routing.
struct SortSlotsArgs {
  std::int32_t* expert_begin;  // [experts + 1] first slot of each expert
  std::int32_t* slot_token;    // [T * used] token row of each slot
  std::int32_t* slot_expert;   // [T * used]
  std::int32_t* token_slot;    // [T, used] slot of each token's j-th expert
  std::int32_t* num_slots;     // T * used: the count for the launches over slots
  const std::int32_t* expert;  // [T, used]
  const std::int32_t* num_tokens;
  std::int32_t experts;
  std::int32_t used;
};

// rf_combine: y[t] += sum_j weight[t, j] * x[token_slot[t, j]], j ascending.
struct CombineArgs {
  float* y;                        // [T, n]
  const float* x;                  // [T * used, n]
  const float* weight;             // [T, used]
  const std::int32_t* token_slot;  // [T, used]
  const std::int32_t* num_tokens;
  std::int32_t used;
  std::int32_t n;
};

// --- positions, cache, attention

// rf_rope_angles: cosines and sines of a step, once for all layers.
struct RopeAnglesArgs {
  float* cos;             // [T, half], times magnitude
  float* sin;             // [T, half]
  const float* inv_freq;  // [half] radians a position
  const std::int32_t* positions;
  const std::int32_t* num_tokens;
  std::int32_t half;
  float magnitude;
};

// rf_rope: rotates the first 2 * half elements of every head in place: pairs (2i, 2i + 1) if
// interleaved, else (i, i + half).
struct RopeArgs {
  float* x;  // [T, row_stride], heads first
  const float* cos;
  const float* sin;
  const std::int32_t* num_tokens;
  std::int64_t row_stride;
  std::int32_t heads;
  std::int32_t head_dim;
  std::int32_t half;
  std::int32_t interleaved;
};

// A block of one layer of the cache, `bytes` (16) from one to the next, has the keys
// [kv_heads][block_size][head_dim], then the values [kv_heads][block_size][value_dim]; for q8_0
// these are int8, and the float16 scales of every 32 of them follow in the same order, at k_scales
// and v_scales.
struct KvLayout {
  std::int64_t bytes;
  std::int64_t v;         // offsets in the block
  std::int64_t k_scales;  // q8_0 only, else 0
  std::int64_t v_scales;
};

// element_bytes 4, 2, or 1 for q8_0, whose dimensions are multiples of 32.
constexpr KvLayout kv_layout(std::int64_t element_bytes, std::int64_t kv_heads,
                             std::int64_t head_dim, std::int64_t value_dim,
                             std::int64_t block_size) {
  const std::int64_t k = kv_heads * block_size * head_dim, v = kv_heads * block_size * value_dim;
  const auto align = [](std::int64_t n) { return (n + 15) / 16 * 16; };
  KvLayout l{};
  l.v = align(k * element_bytes);
  l.bytes = l.v + align(v * element_bytes);
  if (element_bytes == 1) {
    l.k_scales = l.bytes;
    l.v_scales = l.k_scales + align(k / 32 * 2);
    l.bytes = l.v_scales + align(v / 32 * 2);
  }
  return l;
}

// rf_store_kv_{f32,f16,bf16,q8_0}: keys and values of the step into the cache; slot
// block * block_size + offset, -1 writes nothing.
struct StoreKvArgs {
  void* cache;     // block 0 of the layer
  const float* k;  // [T, row_stride], kv_heads * head_dim
  const float* v;  // [T, row_stride], kv_heads * value_dim
  const std::int32_t* slot_mapping;
  const std::int32_t* num_tokens;
  std::int64_t row_stride;
  KvLayout layout;
  std::int32_t kv_heads;
  std::int32_t head_dim;
  std::int32_t value_dim;
  std::int32_t block_size;
};

// Causal attention over the paged cache, which already has the step's own keys and values. Token t
// of sequence s sees the first seq_lens[s] - (query_start_loc[s + 1] - 1 - t) positions; where
// these are none its output is 0. rf_attend_prefill_{type}_d{64,128,256}: any batch; the smallest d
// of kAttendDims that holds head_dim and value_dim. rf_attend_mma_{type}_d{64,128}: the same on
// matrix cores, types f16, bf16 and q8_0. rf_attend_decode_{type}_g{G}: meant for one token a
// sequence, right for any number; `splits` parts of the positions side by side, G of kAttendGroup
// query heads of one KV head at once. Writes partial sums; then rf_attend_combine.
struct AttendArgs {
  float* y;           // [T, heads, value_dim]
  float* partial;     // decode: [T, heads, splits, value_dim]
  float* partial_ml;  // decode: [T, heads, splits, 2] maximum of the scores, sum of the weights
  const float* q;     // [T, q_stride], heads * head_dim
  const void* cache;  // block 0 of the layer
  const std::int32_t* query_start_loc;  // [S + 1]
  const std::int32_t* seq_lens;         // [S] positions in the cache after this step
  const std::int32_t* block_tables;     // [S, max_blocks]
  const std::int32_t* num_seqs;
  std::int64_t q_stride;
  std::int64_t max_blocks;
  KvLayout layout;
  std::int32_t heads;
  std::int32_t kv_heads;
  std::int32_t head_dim;   // <= 256, % 4 == 0
  std::int32_t value_dim;  // <= 256, % 4 == 0
  std::int32_t block_size;
  std::int32_t splits;
  float scale;
};
constexpr int kAttendDims[] = {64, 128, 256};
constexpr int kAttendGroup[] = {1, 2, 4, 8};

}  // namespace rocmforge::gpu

#include "include/sample_args.hpp"
#include "include/step_args.hpp"
