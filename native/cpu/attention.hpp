// Attention of a step: cuts it into items for the thread pool, calls the kernel for each range of
// positions, merges the ranges.
#pragma once

#include <vector>

#include "core/buffer.hpp"
#include "core/thread_pool.hpp"
#include "cpu/kernels.hpp"
#include "ops/backend.hpp"

namespace rocmforge::cpu {

class CpuKvCache;

class Attention {
 public:
  struct Call {
    const Kernels& kernels;
    const DecoderSpec& spec;
    const CpuKvCache& kv;  // holds keys and values of all positions
    const Batch& batch;
    int layer;
    float* y;               // [T, heads, value_dim]
    const float* q;         // [T, heads, head_dim]
    std::int64_t q_stride;  // floats from one token's to the next's
    const float* sinks;     // [heads] null: the architecture has none
    bool tiles;             // whether many rows may go through kernels.attend_tiles
  };
  void run(const Call& call, ThreadPool& pool);

 private:
  // Neighbouring query rows of a sequence. Row i is query head i % group of token i / group.
  struct Item {
    std::int64_t sequence, first_row, num_rows;
    std::int64_t first_position, num_positions;  // the item sees [first_position, num_positions)

    std::int64_t first_range() const { return first_position / kAttendRange; }
  };
  // A token sees the positions [begin, end).
  struct Sight {
    std::int32_t begin, end;
  };
  // The sums of a range, or of several.
  struct State {
    float *values, *maximum, *sum;  // as in AttendArgs
  };
  static Sight sight(const Call& call, std::int64_t sequence, std::int64_t token);
  void fit(const Call& call, int num_threads);
  void plan(const Call& call, int num_threads);
  void compute(State state, const Call& call, const Item& item, std::int64_t head,
               std::int64_t range, std::byte* scratch) const;
  void merge(State into, State from, std::int64_t rows) const;
  void finish(const Call& call, State state, const Item& item, std::int64_t head) const;
  void run_items(const Call& call, ThreadPool& pool);
  void run_ranges(const Call& call, ThreadPool& pool);
  State state_at(std::byte* memory) const;

  std::int64_t heads_ = 0, kv_heads_ = 0, group_ = 0, head_dim_ = 0, value_dim_ = 0;
  std::int64_t state_bytes_ = 0, kernel_bytes_ = 0, scratch_bytes_ = 0;
  std::int64_t most_rows_ = 0;   // of an item
  std::int64_t tile_rows_ = 0;   // items of so many go through tiles
  std::vector<Item> items_;      // of the step, longest first
  std::vector<Buffer> scratch_;  // per thread: the kernel's, queries, what rows see, two states
  Buffer ranges_;                // states of ranges that different threads compute
};

}  // namespace rocmforge::cpu
