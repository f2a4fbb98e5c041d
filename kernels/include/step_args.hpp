// Arguments of the fused stages of a step of few tokens, one a sequence (step_*.hip): five launches
// a layer. Included by args.hpp, whose conventions hold, but for one: the number of tokens is part
// of what a recorded step is kept for, so it comes by value and no launch begins by reading it.
//
// The norm before a product is deferred: who makes the residual stream also writes it times the
// norm's weight, quantized or as floats, and the sums of squares of every 32 values; who multiplies
// applies 1 / rms to the product. So no launch needs a whole row before it can start.
#pragma once

#include <cstdint>

namespace rocmforge::gpu {

// One matrix, of a format of step_formats.def.
struct StepMatrix {
  const void* w;  // raw blocks [rows, k]; row_bytes % 16 == 0 for float formats
  std::int64_t row_bytes;
  std::int32_t rows;    // 0: there is none
  std::int32_t format;  // its id in GGUF files
};

// What is multiplied.
struct StepInput {
  const void* x;         // [columns] rows of q8_row_bytes(k), for float formats of k floats
  const float* squares;  // [columns, k / 32]; null: no norm
  std::int32_t columns;
  std::int32_t k;  // % 32 == 0
  float eps;
};

// What follows the residual stream into the next product; all null if nothing does.
struct StepOutput {
  const float* weight;  // [n] of the norm
  void* quantized;      // [columns] rows of q8_row_bytes(n), or null
  float* scaled;        // [columns, n], or null
  float* squares;       // [columns, n / 32]
};

// rf_step_input: out of x.
struct StepInputArgs {
  const float* x;  // [columns, n]
  StepOutput out;
  std::int32_t columns;
  std::int32_t n;  // % 32 == 0
};

// rf_step_embed_<format of formats.def>: y = rows token_ids of the table, and out of them.
struct StepEmbedArgs {
  float* y;                       // [columns, n]
  const void* table;              // [vocab, n] raw blocks
  const std::int32_t* token_ids;  // [columns], as EmbedArgs'
  const std::int32_t* drawn;
  StepOutput out;
  std::int64_t row_bytes;  // of the table
  std::int32_t n;          // % 32 == 0
};

// rf_step_project_c<C>: y = product + bias, of up to three matrices whose rows follow one another.
struct StepProjectArgs {
  float* y;           // [columns, y_stride]
  const float* bias;  // or null
  StepInput in;
  StepMatrix first;
  StepMatrix second;
  StepMatrix third;
  std::int64_t y_stride;
};

// rf_step_gate_up_<format>_c<C>: silu(gate . x) * (up . x)
struct StepGateUpArgs {
  void* quantized;  // [columns] rows of q8_row_bytes(rows), or null
  float* y;         // [columns, rows], or null
  StepInput in;
  const void* gate;  // raw blocks [rows, k]
  const void* up;
  std::int64_t row_bytes;
  std::int32_t rows;  // % 32 == 0
};

// rf_step_residual_<format>_c<C>: hidden += w . x + bias
struct StepResidualArgs {
  float* hidden;      // [columns, rows]
  const float* bias;  // [rows] or null
  StepOutput out;     // of hidden
  StepInput in;
  const void* w;  // raw blocks [rows, k]
  std::int64_t row_bytes;
  std::int32_t rows;  // % 32 == 0
};

// rf_step_attend_{f32,f16,bf16,q8_0}_d<D>_g<G>: norms of heads, rotation, the token's key and value
// into the cache, attention, for token t of sequence t; D = head_dim = value_dim. Rotates the first
// 2 * half elements: interleaved pairs, or halves of the whole head (half = 0: none).
struct StepAttendArgs {
  void* quantized;                   // [T] rows of q8_row_bytes(heads * D), or null
  float* y;                          // [T, heads * D], or null
  float* partial;                    // [T, heads, splits, D]
  float* partial_ml;                 // [T, heads, splits, 2]
  std::uint32_t* arrivals;           // [T, chunks of heads], 0 before and after
  const float* qkv;                  // [T, heads * D + 2 * kv_heads * D]
  const float* q_norm;               // [D] or null
  const float* k_norm;               // [D] or null
  const float* cos;                  // [T, half]
  const float* sin;                  // [T, half]
  void* cache;                       // block 0 of the layer
  const std::int32_t* slot_mapping;  // [T]; -1 writes nothing
  const std::int32_t* seq_lens;      // [T]
  const std::int32_t* block_tables;  // [T, max_blocks]
  std::int64_t max_blocks;
  KvLayout layout;
  std::int32_t heads;
  std::int32_t kv_heads;
  std::int32_t half;  // % 4 == 0
  std::int32_t interleaved;
  std::int32_t block_size;
  std::int32_t splits;
  float eps;
  float scale;
};

constexpr int kStepColumns[] = {1, 4};
constexpr int kMaxStepWidth = 8192;  // k of a StepInput with a norm
constexpr int kStepDims[] = {64, 128};
constexpr int kStepGroup[] = {1, 2, 4};
constexpr int kMaxStepSplits = 32;  // of a StepAttendArgs

}  // namespace rocmforge::gpu
