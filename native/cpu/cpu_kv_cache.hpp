// The KV cache on the CPU: per layer and block, head-major, keys before values.
//
//   layer 0: block 0: K [kv_head][block_size][head_dim], V [kv_head][block_size][value_dim]
//            block 1: ...
//   layer 1: ...
#pragma once

#include "core/buffer.hpp"
#include "ops/backend.hpp"

namespace rocmforge::cpu {

class CpuKvCache final : public KvCache {
 public:
  CpuKvCache(const DecoderSpec& spec, KvType type, std::int64_t num_blocks,
             std::int64_t block_size);

  KvType type() const { return type_; }
  std::int64_t block_stride() const { return block_stride_; }  // bytes between blocks of a layer
  // First position of block 0.
  std::byte* k(int layer, std::int64_t head) const { return base(layer) + head * k_head_bytes_; }
  std::byte* v(int layer, std::int64_t head) const {
    return base(layer) + v_offset_ + head * v_head_bytes_;
  }

 private:
  std::byte* base(int layer) const {
    return static_cast<std::byte*>(memory_.data()) + layer * num_blocks_ * block_stride_;
  }

  KvType type_;
  std::int64_t k_head_bytes_, v_head_bytes_, v_offset_, block_stride_;
  Buffer memory_;
};

}  // namespace rocmforge::cpu
