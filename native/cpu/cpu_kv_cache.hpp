// The KV cache on the CPU. The blocks of a head follow one another, so that a sequence in
// neighbouring blocks is read as two streams, which memory serves a third faster than pieces.
//
//   layer 0: K [kv_head][block][block_size x head_dim], V [kv_head][block][block_size][value_dim]
//   layer 1: ...
//
// Where the block size is a multiple of 16, the keys of 16 positions are interleaved, so that one
// vector holds the same element of 16 positions and scores need no horizontal sums:
//
//   [block_size / 16][head_dim][16 positions]
//
// Other block sizes keep keys as [block_size][head_dim], and attention rearranges them on the fly.
#pragma once

#include "core/buffer.hpp"
#include "cpu/kernels.hpp"
#include "ops/backend.hpp"

namespace rocmforge::cpu {

class CpuKvCache final : public KvCache {
 public:
  CpuKvCache(const DecoderSpec& spec, KvType type, std::int64_t num_blocks,
             std::int64_t block_size);

  KvType type() const { return type_; }
  // Of block 0.
  std::byte* k(int layer, std::int64_t head) const {
    return base(layer) + head * num_blocks_ * k_block_bytes_;
  }
  std::byte* v(int layer, std::int64_t head) const {
    return base(layer) + num_blocks_ * (num_heads_ * k_block_bytes_ + head * v_block_bytes_);
  }

  // Writes the key and value of one head at `slot` (block * block_size + offset).
  void store(const Kernels& kernels, int layer, std::int64_t head, std::int64_t slot,
             const float* key, const float* value) const;

 private:
  std::byte* base(int layer) const {
    return static_cast<std::byte*>(memory_.data()) + layer * layer_bytes_;
  }

  KvType type_;
  std::int64_t num_heads_, head_dim_, value_dim_, k_row_bytes_, v_row_bytes_;
  std::int64_t k_block_bytes_, v_block_bytes_, layer_bytes_;  // blocks of one head
  Buffer memory_;
};

}  // namespace rocmforge::cpu
