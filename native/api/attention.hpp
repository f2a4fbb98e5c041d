// Attention alone, with any mask: keys and values come with every call.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "api/device.hpp"
#include "model/kv_type.hpp"

namespace rocmforge::api {

struct AttentionShape {
  std::int32_t num_heads = 0;     // of queries; a multiple of num_kv_heads
  std::int32_t num_kv_heads = 0;  // of keys and values
  std::int32_t head_dim = 0;      // of queries and keys
  std::int32_t value_dim = 0;     // of values
  float scale = 1.0f;             // on scores
};

class RF_API Attention {
 public:
  // At most `max_tokens` queries and as many positions in a call. `type` is what keys and values
  // are rounded to.
  Attention(const Device& device, const AttentionShape& shape, std::int64_t max_tokens,
            KvType type = KvType::kF32);
  ~Attention();
  Attention(Attention&&) noexcept;
  Attention& operator=(Attention&&) noexcept;

  // y [queries, num_heads * value_dim] of q [queries, num_heads * head_dim], k [positions,
  // num_kv_heads * head_dim] and v [positions, num_kv_heads * value_dim]; visible [queries,
  // positions]: whether a query sees a position. One that sees none gets 0.
  void run(std::span<float> y, std::span<const float> q, std::span<const float> k,
           std::span<const float> v, std::span<const bool> visible);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace rocmforge::api
