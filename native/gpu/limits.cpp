#include "gpu/limits.hpp"

#include <algorithm>
#include <iterator>

#include "include/args.hpp"

namespace rocmforge::gpu {
namespace {

// Null if there is none.
const char* missing_part(const DecoderSpec& s) {
  const bool scaled =
      s.embedding_scale != 1.0f || s.residual_scale != 1.0f || s.logit_scale != 1.0f;
  const bool windows = std::any_of(s.layers.begin(), s.layers.end(),
                                   [](const LayerSpec& layer) { return layer.window > 0; });
  const struct {
    bool needed;
    const char* what;
  } parts[] = {
      {!s.causal, "attention to tokens that follow"},
      {!s.distance_slopes.empty(), "attention by distance (ALiBi)"},
      {s.norm != NormKind::kRms || s.qk_norm == QkNorm::kEachHead, "layer norms"},
      {s.activation != Activation::kSiluGated, "another activation than SiLU"},
      {s.output_bias, "a bias on logits"},
      {s.latent.size > 0, "latent attention"},
      {scaled, "scaled embeddings, sums or logits"},
      {s.attention_cap != 0.0f || s.logit_cap != 0.0f, "capped scores"},
      {windows, "sliding windows"},
      {s.attention_sinks, "attention sinks"},
      {!s.local_rope.inv_freq.empty(), "two kinds of rotation"},
      {s.num_positions > 0, "position embeddings"},
      {s.num_dense_layers > 0, "layers without experts before others with them"},
      {s.expert_gate == ExpertGate::kSigmoid, "experts chosen by sigmoids"},
      {s.expert_gate == ExpertGate::kSparseMixer, "experts weighed by a sparse mixer"},
      {s.expert_weights_scale != 1.0f, "scaled weights of experts"},
      {s.num_experts > 0 && !s.expert_weights_sum_to_one, "shares among all experts"},
      {s.shared_ffn_size > 0, "a shared expert"},
  };
  for (const auto& [needed, what] : parts)
    if (needed) return what;
  return nullptr;
}

}  // namespace

std::string model_problem(const DecoderSpec& spec) {
  if (const char* part = missing_part(spec))
    return std::string("this model has ") + part + ", for which there is no GPU kernel";
  const std::int32_t widest = std::max(spec.head_dim, spec.value_dim);
  if (widest > std::end(kAttendDims)[-1])
    return "GPU kernels take heads of at most " + std::to_string(std::end(kAttendDims)[-1]) +
           " elements; this model has " + std::to_string(widest);
  if (spec.head_dim % 4 || spec.value_dim % 4)
    return "GPU kernels take heads of a multiple of 4 elements; this model has keys of " +
           std::to_string(spec.head_dim) + " and values of " + std::to_string(spec.value_dim);
  return "";
}

// Vector loads of activations begin at rows: 16 bytes of floats.
std::string columns_problem(std::int64_t columns) {
  if (columns % 4 == 0) return "";
  return "GPU kernels take matrices of a multiple of 4 columns; this one has " +
         std::to_string(columns);
}

}  // namespace rocmforge::gpu
