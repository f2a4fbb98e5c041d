// The CPU kernel table. Each ISA unit overwrites the entries it accelerates and leaves the rest
// alone, so a format or an operation works everywhere as soon as the scalar unit has it.
//
// Invariant of every entry: what is computed for one row, column, token or head does not depend
// on how many others share the call, nor on how callers split the work over threads. That is
// what makes results independent of batch neighbours and thread count.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "cpu/sample.hpp"
#include "model/activation.hpp"
#include "model/kv_type.hpp"
#include "quant/activations.hpp"
#include "quant/formats.hpp"

namespace rocmforge::cpu {

enum class Isa : int { kScalar, kNeon, kDotprod, kI8mm, kAvx2, kAvx512, kAmx };

// y[c * y_stride + r] = sum_i W[r, i] * x[c, i], for r in [row_begin, row_end), c in [0, num_cols).
// `w` is row 0 of the matrix, raw GGUF blocks, row_bytes apart; `x` is column 0, x_stride bytes
// apart, either float32 or activation blocks (quant/activations.hpp).
// `k` (elements of a row) is a whole number of weight blocks. y is indexed by the absolute row.
using LinearFn = void (*)(float* y, std::int64_t y_stride, const void* w, std::int64_t row_bytes,
                          const void* x, std::int64_t x_stride, std::int64_t k,
                          std::int64_t row_begin, std::int64_t row_end, std::int64_t num_cols);

// The same product over panels of 16 interleaved rows (panel/layout.hpp), which is what every level
// but scalar computes with. Columns are packed first, once for all matrices that share them.
struct PackColumnsArgs {
  void* y;  // panel_columns_bytes of them, 64-byte aligned
  const float* x;
  std::int64_t x_stride;       // values
  const std::int32_t* source;  // column c is row source[c] of x; null: row c - x_first
  std::int64_t x_first;
  std::int64_t k;
  std::int64_t num_cols;
  std::int64_t group;                   // columns of a group: PanelFns::group
  std::int64_t group_begin, group_end;  // those to pack
};

constexpr std::int64_t kPanelTileColumns = 16;

constexpr std::int64_t panel_columns_bytes(quant::ActivationType type, std::int64_t k,
                                           std::int64_t num_cols) {
  const std::int64_t step = type == quant::ActivationType::kFloat ? 32 * 4 : 64;
  return (k + 31) / 32 * step * ((num_cols + 15) / 16 * 16);
}

struct PanelArgs {
  float* y;
  std::int64_t y_stride;
  const void* w;        // panel 0 of the matrix
  const void* columns;  // packed as the format's activation type
  std::int64_t k, rows, panel_begin, panel_end, num_cols;
  std::int64_t group;  // of the packed columns
  void* scratch;       // kPanelScratchBytes, 64-byte aligned, of the calling thread alone
};
constexpr std::int64_t kPanelRows = 16;
// Up to so many columns meet codes as they come from memory, in groups filled up with zeros; for
// more of them codes are expanded first.
constexpr std::int64_t kFewColumns = 16;
// Sums of 32 rows by 512 columns, then 256 weights of 32 rows with their scales, then dots of these
// rows and 16 columns.
constexpr std::int64_t kPanelSumsBytes = 32 * 512 * 4;
constexpr std::int64_t kPanelChunkBytes = 32 * 256 + 8 * 32 * 4 * 4;
constexpr std::int64_t kPanelDotsBytes = 8 * 32 * 16 * 4;
constexpr std::int64_t kPanelScratchBytes = kPanelSumsBytes + kPanelChunkBytes + kPanelDotsBytes;

constexpr std::int64_t num_panels(std::int64_t rows) {
  return (rows + kPanelRows - 1) / kPanelRows;
}

// Null where a level computes from the file's own rows.
struct PanelFns {
  std::int64_t (*bytes[quant::kNumFormats])(std::int64_t k);  // of a panel
  // Up to 16 rows of raw blocks into a panel.
  void (*pack[quant::kNumFormats])(void* panel, const void* w, std::int64_t row_bytes,
                                   std::int64_t k, std::int64_t rows);
  void (*pack_columns[quant::kNumActivationTypes])(const PackColumnsArgs&);
  void (*multiply[quant::kNumFormats])(const PanelArgs&);
  // The same results by matrix tiles, from min_tile_columns columns of activation blocks on; null
  // where a level has none.
  void (*multiply_tiles[quant::kNumFormats])(const PanelArgs&);
  std::int64_t min_tile_columns;
  std::int64_t few_group, many_group;  // what the level's registers hold of few and many columns

  bool by_tiles(quant::ActivationType type, std::int64_t num_cols) const {
    return type == quant::ActivationType::kQ8x32 && min_tile_columns != 0 &&
           num_cols >= min_tile_columns;
  }
  // What multiplies so many columns.
  auto product(int format, std::int64_t num_cols) const {
    return by_tiles(quant::kFormats[static_cast<std::size_t>(format)].activation, num_cols)
               ? multiply_tiles[format]
               : multiply[format];
  }
  // Columns of a group: of tiles 16, of few 1, 2, 4, 6 or 8, all groups alike.
  std::int64_t group(quant::ActivationType type, std::int64_t num_cols) const {
    if (by_tiles(type, num_cols)) return kPanelTileColumns;
    if (num_cols > kFewColumns) return many_group;
    if (num_cols <= 1) return 1;
    const std::int64_t groups = (num_cols + few_group - 1) / few_group;
    const std::int64_t columns = (num_cols + groups - 1) / groups;
    return (columns + 1) / 2 * 2;
  }
};

// The product of many columns, in bfloat16: each weight decoded to float32 and each column's value
// rounded to nearest even, subnormals to zero, their products exact and summed in float32. Weights
// are panels; columns are packed in tiles of 16.
//
// |error| <= sum |w x| * (2^-7 + 2^-16 + (17 k / 16 + 4) * 2^-24), besides what decoding rounds.
struct PackArgs {
  void* y;  // GemmFns::packed_bytes of them, 64-byte aligned
  const float* x;
  std::int64_t x_stride;       // values
  const std::int32_t* source;  // column c is row source[c] of x; null: row c - x_first
  std::int64_t x_first;
  std::int64_t k;
  std::int64_t num_cols;
  std::int64_t tile_begin, tile_end;  // of tiles of kGemmTileColumns columns: those to pack
};
constexpr std::int64_t kGemmTileColumns = 16;

struct GemmArgs {
  float* y;
  std::int64_t y_stride;
  const void* w;  // panel 0 of the matrix
  const void* x;  // packed
  std::int64_t k, rows, panel_begin, panel_end, num_cols;
  void* scratch;  // GemmFns::scratch_bytes, 64-byte aligned, of the calling thread alone
};

// Null where a level has no matrix tiles.
struct GemmFns {
  std::int64_t min_cols[quant::kNumActivationTypes];  // fewer are faster through PanelFns
  std::int64_t scratch_bytes;
  std::int64_t (*packed_bytes)(std::int64_t k, std::int64_t num_cols);
  void (*pack)(const PackArgs&);
  void (*gemm[quant::kNumFormats])(const GemmArgs&);
  // Nothing but products of tiles, 2 * 16 * 16 * 32 operations each: the peak, for benchmarks.
  void (*spin)(std::int64_t products);
};

// y[0..k) = the decoded weights of one row.
using DequantizeFn = void (*)(float* y, const void* w, std::int64_t k);

// x[0..k) as k / 32 activation blocks, y_stride blocks apart.
using QuantizeFn = void (*)(quant::BlockQ8x32* y, std::int64_t y_stride, const float* x,
                            std::int64_t k);

// y = x / sqrt(mean(x^2) + eps) * weight, for one token; y may alias x.
using RmsNormFn = void (*)(float* y, const float* x, const float* weight, std::int64_t n,
                           float eps);

// y = (x - mean) / sqrt(variance + eps) * weight + bias, for one token; y may alias x.
using LayerNormFn = void (*)(float* y, const float* x, const float* weight, const float* bias,
                             std::int64_t n, float eps);

// y[i] = silu(gate[i]) * up[i]; y may alias gate.
using SiluMulFn = void (*)(float* y, const float* gate, const float* up, std::int64_t n);

// One token's inner values, y[0..n); x is [gate, up] of n each where the activation is gated, else
// n values.
using ActivateFn = void (*)(float* y, const float* x, std::int64_t n);

// x[i] *= factor
using ScaleFn = void (*)(float* x, float factor, std::int64_t n);

// x[i] = cap * tanh(x[i] / cap), to cap * 2^-22; NaN stays NaN.
using SoftCapFn = void (*)(float* x, float cap, std::int64_t n);

// y[i] += x[i]
using AddFn = void (*)(float* y, const float* x, std::int64_t n);

// Rotates one head in place: pairs (2i, 2i+1) if interleaved, else (i, i + rotary_dim/2).
// cos and sin hold rotary_dim/2 values for the token's position.
using RopeFn = void (*)(float* head, const float* cos, const float* sin, std::int64_t rotary_dim,
                        bool interleaved);

// Converts a row of n floats to the cache's element type: kv_row_bytes of them.
using StoreKvFn = void (*)(void* y, const float* x, std::int64_t n);

// Attention is computed for ranges of kAttendRange positions, counted from position 0, each with
// its own maximum, sum and weighted values, which are then merged in order (cpu/attention.hpp). A
// range is computed in tiles of kAttendTile positions. So the order of every sum depends on the
// positions alone.
constexpr std::int64_t kAttendRange = 1024;
constexpr std::int64_t kAttendTile = 64;
constexpr std::int64_t kKvLanes = 16;  // positions whose keys are interleaved (cpu_kv_cache.hpp)

constexpr std::int64_t kKvChunkBlocks = 64;  // of a head that follow one another (cpu_kv_cache.hpp)

constexpr bool keys_are_interleaved(std::int64_t block_size) { return block_size % kKvLanes == 0; }

// Query rows (tokens of one sequence x query heads of one KV head) against the cached positions
// [begin, end) of one range. Position p lies in block block_table[p / block_size]; kKvChunkBlocks
// blocks follow one another, chunk_bytes behind them the next.
struct AttendArgs {
  float* values;                    // [rows, attend_stride(value_dim)] sum of weight * value
  float* maximum;                   // [rows] of the scores
  float* sum;                       // [rows] of the weights exp(score - maximum); 0: saw nothing
  const float* q;                   // [rows, head_dim], times the attention's scale
  const std::int32_t* seen;         // [rows] a row sees the positions [first, seen)
  const std::int32_t* first;        // [rows] null: 0
  const std::int32_t* block_table;  // block ids of the sequence
  const void* k_base;               // block 0 of this layer and KV head
  const void* v_base;
  std::int64_t chunk_bytes;
  std::int64_t block_size;  // positions per block
  std::int64_t rows;
  std::int64_t begin, end;  // begin is a multiple of kAttendTile
  std::int64_t stored;      // positions in the cache: what may be prefetched beyond `end`
  std::int64_t head_dim;
  std::int64_t value_dim;
  float cap;                     // scores become cap * tanh(score / cap); 0: they stay
  const float* slope;            // [rows] null: none; scores then lose slope * |position - key's|
  const std::int32_t* position;  // [rows] of a row's token, where there are slopes
  void* scratch;  // attend_scratch_bytes(head_dim, value_dim) of them, 64-byte aligned
};
constexpr std::int64_t kAttendMaxRows = 128;

// Floats from one row of values to the next: whole vectors of every ISA.
constexpr std::int64_t attend_stride(std::int64_t value_dim) { return (value_dim + 15) / 16 * 16; }

constexpr std::int64_t attend_scratch_bytes(std::int64_t head_dim, std::int64_t value_dim) {
  // Lanes of the sums of weights, scores of a few rows, one tile of keys and of values, one row.
  const std::int64_t floats = kAttendMaxRows * 16 + 8 * kAttendTile +
                              kAttendTile * (head_dim + attend_stride(value_dim)) +
                              (head_dim + 15) / 16 * 16;
  return floats * static_cast<std::int64_t>(sizeof(float));
}
using AttendFn = void (*)(const AttendArgs&);

// The same of many rows, in bfloat16: queries (times the scale), keys, weights and values are
// rounded to nearest even, subnormals to zero, their products exact and summed in float32; a sum of
// weights is that of the rounded ones.
//
// |score - exact| <= 2^-7 sum |q k| =: e besides float32 sums, so |y - exact| <= max |v| *
// (2 (exp(2 e) - 1) + 3 * 2^-8): two roundings of a weight, numerator and denominator, one of a
// value. A value beyond the largest bfloat16 becomes infinite.
//
// Null where a level has no matrix tiles.
struct AttendTileFns {
  std::int64_t min_rows;  // fewer are faster through Kernels::attend
  std::int64_t (*scratch_bytes)(std::int64_t head_dim, std::int64_t value_dim);
  AttendFn attend[kNumKvTypes];
};
// What the tiles can read; the rest, and rows with a first position, a cap or a slope, is left to
// Kernels::attend.
constexpr bool fits_attend_tiles(std::int64_t block_size, std::int64_t value_dim) {
  return keys_are_interleaved(block_size) && value_dim % kKvLanes == 0;
}

struct Kernels {
  Isa isa;
  LinearFn linear_quantized[quant::kNumFormats];  // x in activation blocks
  LinearFn linear_float[quant::kNumFormats];      // x in float32
  PanelFns panels;
  GemmFns gemm;
  DequantizeFn dequantize[quant::kNumFormats];
  QuantizeFn quantize;
  RmsNormFn rms_norm;
  LayerNormFn layer_norm;
  SiluMulFn silu_mul;
  ActivateFn activate[kNumActivations];
  ScaleFn scale;
  SoftCapFn soft_cap;
  AddFn add;
  RopeFn rope;
  StoreKvFn store_kv[kNumKvTypes];
  AttendFn attend[kNumKvTypes];
  AttendTileFns attend_tiles;
  SampleKernels sample;
};

// One per ISA directory; each calls the installers of its files.
void install_scalar(Kernels& k);
void install_neon(Kernels& k);
void install_dotprod(Kernels& k);
void install_i8mm(Kernels& k);
void install_avx2(Kernels& k);
void install_avx512(Kernels& k);
void install_amx(Kernels& k);

std::string_view name(Isa isa);
std::vector<Isa> built_isas();      // slowest first; always starts with kScalar
std::vector<Isa> available_isas();  // those of them that this CPU can run
Kernels kernels_for(Isa isa);       // the table as it would be on a CPU stopping at `isa`
const Kernels& kernels();           // best for this CPU, or $ROCMFORGE_CPU_ISA

}  // namespace rocmforge::cpu
