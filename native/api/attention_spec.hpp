// An attention's shape as backends take it.
#pragma once

#include "api/attention.hpp"
#include "model/spec.hpp"

namespace rocmforge::api {

inline DecoderSpec spec_of(const AttentionShape& shape) {
  DecoderSpec spec;
  spec.num_layers = 1;
  spec.num_heads = shape.num_heads;
  spec.num_kv_heads = shape.num_kv_heads;
  spec.head_dim = shape.head_dim;
  spec.value_dim = shape.value_dim;
  spec.attention_scale = shape.scale;
  return spec;
}

}  // namespace rocmforge::api
