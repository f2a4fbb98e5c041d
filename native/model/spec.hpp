// What distinguishes one Llama-like model from another, as data. Whatever is not here is decided
// by which weights are present (a null weight means the step is absent).
#pragma once

#include <cstdint>
#include <vector>

namespace rocmforge {

struct RopeSpec {
  bool interleaved = true;      // pairs (2i, 2i+1); else (i, i + n/2), n = 2 * inv_freq.size()
  std::vector<float> inv_freq;  // radians per position; all scaling kinds are folded in
  float magnitude = 1.0f;       // factor on cos and sin (yarn's attention factor)
};

struct DecoderSpec {
  std::int32_t num_layers = 0;
  std::int32_t hidden_size = 0;
  std::int32_t num_heads = 0;
  std::int32_t num_kv_heads = 0;
  std::int32_t head_dim = 0;   // of queries and keys
  std::int32_t value_dim = 0;  // of values
  std::int32_t ffn_size = 0;   // of each expert, where there are experts
  std::int32_t vocab_size = 0;
  std::int32_t num_experts = 0;  // 0: a dense feed-forward network
  std::int32_t num_experts_used = 0;
  float norm_eps = 0.0f;
  float attention_scale = 0.0f;
  RopeSpec rope;

  std::int32_t q_size() const { return num_heads * head_dim; }
  std::int32_t k_size() const { return num_kv_heads * head_dim; }
  std::int32_t v_size() const { return num_kv_heads * value_dim; }
  std::int32_t qkv_size() const { return q_size() + k_size() + v_size(); }
};

}  // namespace rocmforge
