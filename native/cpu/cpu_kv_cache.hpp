// The KV cache on the CPU. Blocks come in chunks of 64, in which those of a head follow one
// another: a sequence in neighbouring blocks is read as two streams, which memory serves a third
// faster than pieces, and yet a short one touches few pages. (With all blocks of a head together,
// the first token of a model with 16 layers of 8 heads touched 256 huge pages, a second of
// clearing.)
//
//   layer 0: chunk 0: K [kv_head][64][block_size x head_dim], V
//   [kv_head][64][block_size][value_dim]
//            chunk 1: ...
//   layer 1: ...
//
// Where the block size is a multiple of 16, the keys of 16 positions are interleaved, so that one
// vector holds the same element of 16 positions and scores need no horizontal sums:
//
//   [block_size / 16][head_dim][16 positions]
//
// Other block sizes keep keys as [block_size][head_dim], and attention rearranges them on the fly.
#pragma once

#include <span>

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
    return base(layer) + head * kKvChunkBlocks * k_block_bytes_;
  }
  std::byte* v(int layer, std::int64_t head) const {
    return base(layer) + kKvChunkBlocks * (num_heads_ * k_block_bytes_ + head * v_block_bytes_);
  }
  // From a block to the one kKvChunkBlocks behind it.
  std::int64_t chunk_bytes() const { return chunk_bytes_; }
  // All of it, the rest of the last chunk included, which nothing ever touches.
  std::span<std::byte> memory() const {
    return {static_cast<std::byte*>(memory_.data()), memory_.bytes()};
  }

  // Calls f(memory, bytes) for the pieces of a block, in the same order for every block.
  template <class F>
  void for_pieces(std::int64_t block, F&& f) const {
    for (int layer = 0; layer < num_layers_; ++layer)
      for (std::int64_t head = 0; head < num_heads_; ++head) {
        f(k(layer, head) + at(block, k_block_bytes_), k_block_bytes_);
        f(v(layer, head) + at(block, v_block_bytes_), v_block_bytes_);
      }
  }
  // Writes the key and value of one head at `slot` (block * block_size + offset).
  void store(const Kernels& kernels, int layer, std::int64_t head, std::int64_t slot,
             const float* key, const float* value) const;

 private:
  std::byte* base(int layer) const {
    return static_cast<std::byte*>(memory_.data()) + layer * layer_bytes_;
  }
  std::int64_t at(std::int64_t block, std::int64_t block_bytes) const {
    return block / kKvChunkBlocks * chunk_bytes_ + block % kKvChunkBlocks * block_bytes;
  }

  KvType type_;
  int num_layers_;
  std::int64_t num_heads_, head_dim_, value_dim_, k_row_bytes_, v_row_bytes_;
  std::int64_t k_block_bytes_, v_block_bytes_;  // of one head
  std::int64_t chunk_bytes_, layer_bytes_;
  Buffer memory_;
};

}  // namespace rocmforge::cpu
