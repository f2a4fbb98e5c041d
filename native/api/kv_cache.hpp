// A paged cache of keys and values of one attention layer, and causal attention over it. Who holds
// which blocks is the caller's to know: blocks may be shared, reordered and used again at will.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "api/attention.hpp"

namespace rocmforge::api {

struct KvCacheSize {
  KvType type = KvType::kF16;
  std::int64_t num_blocks = 0;
  std::int64_t block_size = 16;   // positions
  std::int64_t max_tokens = 512;  // of a call
  std::int64_t max_seqs = 64;     // of a call
};

// S sequences whose last tokens ask: those of sequence s are query_start_loc[s] up to [s + 1].
struct Sequences {
  std::span<const std::int32_t> query_start_loc;  // [S + 1]
  std::span<const std::int32_t> seq_lens;         // [S] positions, those that ask included
  std::span<const std::int32_t> block_tables;     // [S, max_blocks]
  std::int64_t max_blocks = 0;
};

class RF_API KvCache {
 public:
  KvCache(const Device& device, const AttentionShape& shape, const KvCacheSize& size);
  ~KvCache();
  KvCache(KvCache&&) noexcept;
  KvCache& operator=(KvCache&&) noexcept;

  std::int64_t bytes() const;
  // k [n, num_kv_heads * head_dim] and v [n, num_kv_heads * value_dim] to slots [n], which are
  // block * block_size + offset.
  void store(std::span<const float> k, std::span<const float> v,
             std::span<const std::int32_t> slots);
  // y [T, num_heads * value_dim] of q [T, num_heads * head_dim]: a token sees the positions of its
  // sequence up to its own, which must have been stored.
  void attend(std::span<float> y, std::span<const float> q, const Sequences& sequences);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace rocmforge::api
