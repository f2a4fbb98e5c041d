// Attention alone, on the backend of any device: keys and values go through a cache of one layer
// whose blocks are single positions, so that the table of a query is the list of what it sees.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ops/backend.hpp"

namespace rocmforge {

class StandaloneAttention {
 public:
  // `spec` has one layer, heads, head_dim, value_dim and attention_scale; no more than `max_tokens`
  // queries and positions each.
  StandaloneAttention(std::unique_ptr<Backend> backend, DecoderSpec spec, KvType kv_type,
                      std::int64_t max_tokens);

  // y [queries, heads * value_dim] of q [queries, heads * head_dim], k [positions, kv_heads *
  // head_dim] and v [positions, kv_heads * value_dim]. visible[i * positions + j]: whether query i
  // sees position j; one that sees none gets 0.
  void run(float* y, const float* q, const float* k, const float* v, const bool* visible,
           std::int64_t queries, std::int64_t positions);
  const DecoderSpec& spec() const { return spec_; }
  std::int64_t max_tokens() const { return max_tokens_; }

 private:
  void store(const float* k, const float* v, std::int64_t positions);

  std::unique_ptr<Backend> backend_;
  DecoderSpec spec_;
  std::int64_t max_tokens_;
  KvCachePtr kv_;
  Activations a_;
  std::vector<float> qkv_;
};

}  // namespace rocmforge
