// The element types a KV cache can have.
#pragma once

#include <cstdint>

namespace rocmforge {

enum class KvType : int { kF16, kF32 };
constexpr int kNumKvTypes = 2;

constexpr std::int64_t kv_element_bytes(KvType t) { return t == KvType::kF16 ? 2 : 4; }

}  // namespace rocmforge
