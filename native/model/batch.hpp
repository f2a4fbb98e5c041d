// One step: T tokens of S sequences, R of which want logits. All arrays are int32 and belong to
// the caller for the length of the call. engine/batch.py fills them.
#pragma once

#include <cstdint>
#include <span>

namespace rocmforge {

struct Batch {
  // [T]; -(row + 1): the id drawn in that row of the last Decoder::draw(), if num_drawn says there
  // is one
  std::span<const std::int32_t> token_ids;
  std::span<const std::int32_t> positions;        // [T] index of the token in its sequence
  std::span<const std::int32_t> slot_mapping;     // [T] block * block_size + offset; -1: no write
  std::span<const std::int32_t> query_start_loc;  // [S + 1] first token of each sequence
  std::span<const std::int32_t> seq_lens;         // [S] tokens in the cache after this step
  std::span<const std::int32_t> block_tables;     // [S, max_blocks]
  std::int64_t max_blocks = 0;
  std::span<const std::int32_t> logit_rows;  // [R] rows of T
  std::int64_t num_drawn = 0;                // rows that token_ids may refer to

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(token_ids.size()); }
  std::int64_t num_seqs() const { return static_cast<std::int64_t>(seq_lens.size()); }
  std::int64_t num_logit_rows() const { return static_cast<std::int64_t>(logit_rows.size()); }
};

}  // namespace rocmforge
