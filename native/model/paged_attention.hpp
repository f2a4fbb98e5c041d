// Attention of one layer over a paged cache that the caller fills and whose blocks he hands out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ops/backend.hpp"

namespace rocmforge {

class PagedAttention {
 public:
  // `spec` has one layer, heads, head_dim, value_dim and attention_scale. A call stores or asks for
  // at most `max_tokens` tokens of at most `max_seqs` sequences.
  PagedAttention(std::unique_ptr<Backend> backend, DecoderSpec spec, KvType type,
                 std::int64_t num_blocks, std::int64_t block_size, std::int64_t max_tokens,
                 std::int64_t max_seqs);

  // k [n, kv_heads * head_dim] and v [n, kv_heads * value_dim] of one position each, to
  // slots [n] = block * block_size + offset.
  void store(const float* k, const float* v, std::span<const std::int32_t> slots);
  // y [T, heads * value_dim] of q [T, heads * head_dim], the last tokens of S sequences; a token
  // sees the positions up to its own. Tokens of sequence s are query_start_loc[s] to [s + 1], it
  // has seq_lens[s] positions, in the blocks of row s of block_tables [S, max_blocks].
  void attend(float* y, const float* q, std::span<const std::int32_t> query_start_loc,
              std::span<const std::int32_t> seq_lens, std::span<const std::int32_t> block_tables,
              std::int64_t max_blocks);

  const DecoderSpec& spec() const { return spec_; }
  std::int64_t num_blocks() const { return kv_->num_blocks(); }
  std::int64_t block_size() const { return kv_->block_size(); }
  std::int64_t bytes() const { return kv_->bytes(); }

 private:
  // Where the tokens of a call stand in their sequences.
  std::vector<std::int32_t> checked_positions(std::span<const std::int32_t> query_start_loc,
                                              std::span<const std::int32_t> seq_lens,
                                              std::span<const std::int32_t> block_tables,
                                              std::int64_t max_blocks) const;

  std::unique_ptr<Backend> backend_;
  DecoderSpec spec_;
  std::int64_t max_tokens_, max_seqs_;
  KvCachePtr kv_;
  Activations a_;
  std::vector<float> qkv_;
};

}  // namespace rocmforge
