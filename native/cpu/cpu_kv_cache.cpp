#include "cpu/cpu_kv_cache.hpp"

#include <algorithm>
#include <string>

#include "core/error.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kPiece = 256;  // values converted at once: whole blocks of every type

// Puts n values into one lane of an interleaved group.
template <class Element>
void interleave(std::byte* lane, const std::byte* values, std::int64_t n) {
  auto* out = reinterpret_cast<Element*>(lane);
  const auto* in = reinterpret_cast<const Element*>(values);
  for (std::int64_t i = 0; i < n; ++i) out[i * kKvLanes] = in[i];
}

}  // namespace

CpuKvCache::CpuKvCache(const DecoderSpec& spec, KvType type, std::int64_t num_blocks,
                       std::int64_t block_size)
    : type_(type),
      num_layers_(spec.num_layers),
      num_heads_(spec.num_kv_heads),
      head_dim_(spec.head_dim),
      value_dim_(spec.value_dim) {
  check(num_blocks > 0 && num_blocks <= INT32_MAX, ErrorCode::kInvalidArgument,
        "a KV cache needs between 1 and 2^31 - 1 blocks");
  // Slots (block * block_size + offset) travel as int32.
  check(block_size > 0 && block_size <= INT32_MAX / num_blocks, ErrorCode::kInvalidArgument,
        "num_blocks * block_size must be positive and below 2^31");
  const std::int64_t values = info(type).block_values;
  if (head_dim_ % values || value_dim_ % values)
    throw Error(ErrorCode::kInvalidArgument,
                "kv_dtype " + std::string(info(type).name) + " needs heads of a multiple of " +
                    std::to_string(values) + " elements; this model has keys of " +
                    std::to_string(head_dim_) + " and values of " + std::to_string(value_dim_) +
                    ": choose another kv_dtype");
  num_blocks_ = num_blocks;
  block_size_ = block_size;
  k_row_bytes_ = kv_row_bytes(type, head_dim_);
  v_row_bytes_ = kv_row_bytes(type, value_dim_);
  k_block_bytes_ = block_size * k_row_bytes_;
  v_block_bytes_ = block_size * v_row_bytes_;
  const std::int64_t block_bytes = num_heads_ * (k_block_bytes_ + v_block_bytes_);
  const std::int64_t num_chunks = (num_blocks + kKvChunkBlocks - 1) / kKvChunkBlocks;
  chunk_bytes_ = kKvChunkBlocks * block_bytes;
  layer_bytes_ = num_chunks * chunk_bytes_;
  bytes_ = spec.num_layers * num_blocks * block_bytes;
  memory_ = Buffer(static_cast<std::size_t>(spec.num_layers * layer_bytes_));
}

void CpuKvCache::store(const Kernels& kernels, int layer, std::int64_t head, std::int64_t slot,
                       const float* key, const float* value) const {
  const auto convert = kernels.store_kv[static_cast<int>(type_)];
  const std::int64_t block = slot / block_size_, offset = slot % block_size_;
  convert(v(layer, head) + at(block, v_block_bytes_) + offset * v_row_bytes_, value, value_dim_);

  std::byte* keys = k(layer, head) + at(block, k_block_bytes_);
  if (!keys_are_interleaved(block_size_)) {
    convert(keys + offset * k_row_bytes_, key, head_dim_);
    return;
  }
  const std::int64_t lane = offset % kKvLanes;
  std::byte* group = keys + (offset - lane) * k_row_bytes_;
  alignas(float) std::byte piece[kPiece * sizeof(float)];
  for (std::int64_t i = 0; i < head_dim_; i += kPiece) {
    const std::int64_t n = std::min(kPiece, head_dim_ - i);
    convert(piece, key + i, n);
    std::byte* out = group + kv_row_bytes(type_, i) * kKvLanes;
    switch (type_) {
      case KvType::kF16:
      case KvType::kBf16:
        interleave<std::uint16_t>(out + lane * 2, piece, n);
        break;
      case KvType::kF32:
        interleave<float>(out + lane * 4, piece, n);
        break;
      case KvType::kQ8_0:
        for (std::int64_t b = 0; b < kv_row_bytes(type_, n); b += info(type_).block_bytes) {
          interleave<std::uint16_t>(out + b * kKvLanes + lane * 2, piece + b, 1);
          interleave<std::int8_t>(out + (b + 2) * kKvLanes + lane, piece + b + 2,
                                  info(type_).block_values);
        }
        break;
    }
  }
}

}  // namespace rocmforge::cpu
