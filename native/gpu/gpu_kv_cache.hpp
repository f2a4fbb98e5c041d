// The KV cache on a GPU: per layer, the blocks one behind the other, each as args.hpp's KvLayout.
#pragma once

#include <cstddef>

#include "gpu/arena.hpp"
#include "include/args.hpp"
#include "ops/backend.hpp"

namespace rocmforge::gpu {

class GpuKvCache final : public KvCache {
 public:
  // Throws Error(kInvalidArgument) for sizes that cannot be and Error(kOutOfMemory).
  GpuKvCache(Arena& arena, const DecoderSpec& spec, KvType type, std::int64_t num_blocks,
             std::int64_t block_size);
  ~GpuKvCache() override;

  const KvLayout& layout() const { return layout_; }
  void* layer(int i) const { return memory_ + i * num_blocks_ * layout_.bytes; }
  // A block of all layers; Backend::read_kv().
  void read(Device& device, std::int64_t block, std::byte* to) const;
  void write(Device& device, std::int64_t block, const std::byte* from) const;

 private:
  std::byte* at(std::int64_t layer, std::int64_t block) const {
    return memory_ + (layer * num_blocks_ + block) * layout_.bytes;
  }

  Arena& arena_;
  KvLayout layout_;
  std::int64_t num_layers_;
  std::byte* memory_ = nullptr;
};

}  // namespace rocmforge::gpu
