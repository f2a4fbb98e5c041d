// The element types a KV cache can have.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace rocmforge {

// kQ8_0: 32 values share a float16 scale d, as in the weight format of that name; a value is d * q.
enum class KvType : int { kF16, kBf16, kF32, kQ8_0 };
constexpr int kNumKvTypes = 4;

struct KvTypeInfo {
  std::string_view name;
  std::int64_t block_values;  // a row (one position of one head) is a whole number of blocks
  std::int64_t block_bytes;
};

constexpr std::array<KvTypeInfo, kNumKvTypes> kKvTypes = {
    {{"f16", 1, 2}, {"bf16", 1, 2}, {"f32", 1, 4}, {"q8_0", 32, 34}}};

constexpr const KvTypeInfo& info(KvType t) { return kKvTypes[static_cast<std::size_t>(t)]; }

// Bytes of a row of n values.
constexpr std::int64_t kv_row_bytes(KvType t, std::int64_t n) {
  return n / info(t).block_values * info(t).block_bytes;
}

}  // namespace rocmforge
