#include "gpu/gpu_kv_cache.hpp"

#include <string>

#include "core/error.hpp"

namespace rocmforge::gpu {

GpuKvCache::GpuKvCache(Arena& arena, const DecoderSpec& spec, KvType type, std::int64_t num_blocks,
                       std::int64_t block_size)
    : arena_(arena), num_layers_(spec.num_layers) {
  check(num_blocks > 0 && num_blocks <= INT32_MAX, ErrorCode::kInvalidArgument,
        "a KV cache needs between 1 and 2^31 - 1 blocks");
  // Slots (block * block_size + offset) travel as int32.
  check(block_size > 0 && block_size <= INT32_MAX / num_blocks, ErrorCode::kInvalidArgument,
        "num_blocks * block_size must be positive and below 2^31");
  const std::int64_t values = info(type).block_values;
  if (spec.head_dim % values || spec.value_dim % values)
    throw Error(ErrorCode::kInvalidArgument,
                "kv_dtype " + std::string(info(type).name) + " needs heads of a multiple of " +
                    std::to_string(values) + " elements: choose another kv_dtype");
  num_blocks_ = num_blocks;
  block_size_ = block_size;
  const std::int64_t element_bytes = type == KvType::kQ8_0 ? 1 : info(type).block_bytes;
  layout_ = kv_layout(element_bytes, spec.num_kv_heads, spec.head_dim, spec.value_dim, block_size);
  bytes_ = spec.num_layers * num_blocks * layout_.bytes;
  memory_ = static_cast<std::byte*>(arena_.allocate(bytes_));
}

void GpuKvCache::read(Device& device, std::int64_t block, std::byte* to) const {
  for (std::int64_t i = 0; i < num_layers_; ++i)
    device.to_host(to + i * layout_.bytes, at(i, block), layout_.bytes);
}

void GpuKvCache::write(Device& device, std::int64_t block, const std::byte* from) const {
  for (std::int64_t i = 0; i < num_layers_; ++i)
    device.to_device(at(i, block), from + i * layout_.bytes, layout_.bytes);
}

GpuKvCache::~GpuKvCache() { arena_.free(memory_); }

}  // namespace rocmforge::gpu
