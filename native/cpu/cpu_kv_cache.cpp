#include "cpu/cpu_kv_cache.hpp"

#include "core/error.hpp"

namespace rocmforge::cpu {

CpuKvCache::CpuKvCache(const DecoderSpec& spec, KvType type, std::int64_t num_blocks,
                       std::int64_t block_size)
    : type_(type) {
  check(num_blocks > 0 && num_blocks <= INT32_MAX, ErrorCode::kInvalidArgument,
        "a KV cache needs between 1 and 2^31 - 1 blocks");
  // Slots (block * block_size + offset) travel as int32.
  check(block_size > 0 && block_size <= INT32_MAX / num_blocks, ErrorCode::kInvalidArgument,
        "num_blocks * block_size must be positive and below 2^31");
  num_blocks_ = num_blocks;
  block_size_ = block_size;
  const std::int64_t element = kv_element_bytes(type);
  k_head_bytes_ = block_size * spec.head_dim * element;
  v_head_bytes_ = block_size * spec.value_dim * element;
  v_offset_ = spec.num_kv_heads * k_head_bytes_;
  block_stride_ = v_offset_ + spec.num_kv_heads * v_head_bytes_;
  bytes_ = spec.num_layers * num_blocks * block_stride_;
  memory_ = Buffer(static_cast<std::size_t>(bytes_));
}

}  // namespace rocmforge::cpu
