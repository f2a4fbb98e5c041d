// What distinguishes one decoder from another, as data. Whatever is not here is decided by which
// weights are present (a null weight means the step is absent).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/activation.hpp"

namespace rocmforge {

struct RopeSpec {
  bool interleaved = true;      // pairs (2i, 2i+1); else (i, i + n/2), n = 2 * inv_freq.size()
  std::vector<float> inv_freq;  // radians per position; all scaling kinds are folded in
  float magnitude = 1.0f;       // factor on cos and sin (yarn's attention factor)
};

enum class NormKind : std::int32_t {
  kRms,    // x / rms(x) * weight
  kLayer,  // (x - mean) / deviation * weight + bias; its storage is [2, n]: weights, biases
};

enum class QkNorm : std::int32_t {
  kHead,      // each query and key head by itself, all with the same weights
  kEachHead,  // each with weights of its own, and by a layer norm
  kWhole,     // all heads of a token as one vector
};

enum class RopeUse : std::int32_t { kNone, kMain, kLocal };

// How the scores of a router become shares of experts.
enum class ExpertGate : std::int32_t {
  kSoftmax,
  kSigmoid,
  // GRIN's (arXiv:2409.12136): the softmax of the best among those that come close to it, then that
  // of the second among the others that come close to that; shares sum to nothing in particular.
  kSparseMixer,
};

// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): keys and values of all heads are
// products of one vector a token, which is all that the cache holds. Instead of computing keys from
// it, a head's query is brought into its space, so num_kv_heads is 1, value_dim is `size` and
// head_dim that and the part that rotates.
struct LatentSpec {
  std::int32_t size = 0;        // of the vector; 0: plain attention
  std::int32_t query_size = 0;  // of the vector queries come from; 0: they come from hidden values
  std::int32_t key_dim = 0;     // of a head's key, without the part that rotates
  std::int32_t value_dim = 0;   // of a head's value
};

struct LayerSpec {
  // A token sees so many positions, itself included: those before it, or as many on either side
  // where attention is not causal. 0: all there are.
  std::int32_t window = 0;
  RopeUse rope = RopeUse::kMain;
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
  std::int32_t num_dense_layers = 0;  // of a model with experts: its first layers have none
  std::int32_t dense_ffn_size = 0;    // of those layers
  std::int32_t shared_ffn_size = 0;   // of the expert that every token goes to; 0: none
  std::int32_t num_positions = 0;     // rows of the table of position embeddings; 0: none
  float norm_eps = 0.0f;
  float attention_scale = 0.0f;
  float attention_cap = 0.0f;  // scores become cap tanh(score / cap); 0: they stay
  float logit_cap = 0.0f;      // logits likewise, after their scale
  float embedding_scale = 1.0f;
  float residual_scale = 1.0f;  // on what attention and the feed-forward network add
  float logit_scale = 1.0f;
  NormKind norm = NormKind::kRms;
  Activation activation = Activation::kSiluGated;
  QkNorm qk_norm = QkNorm::kHead;
  ExpertGate expert_gate = ExpertGate::kSoftmax;
  float expert_weights_scale = 1.0f;
  bool expert_weights_sum_to_one = true;  // over the chosen ones; else over all experts
  bool attention_sinks = false;           // a score for each head that adds to its softmax' sum
  bool output_bias = false;               // on logits
  bool parallel_residual = false;         // the feed-forward network reads what attention reads
  // False: tokens see those after them as well, so a step has every token of its sequences.
  bool causal = true;
  // [heads] scores lose so much for each position between query and key (ALiBi, arXiv:2108.12409);
  // empty: nothing.
  std::vector<float> distance_slopes;
  LatentSpec latent;
  RopeSpec rope;
  RopeSpec local_rope;            // of layers with RopeUse::kLocal
  std::vector<LayerSpec> layers;  // empty: all as LayerSpec's defaults

  LayerSpec layer(int i) const {
    return layers.empty() ? LayerSpec{} : layers[static_cast<std::size_t>(i)];
  }
  const RopeSpec& rope_of(int i) const {
    return layer(i).rope == RopeUse::kLocal ? local_rope : rope;
  }
  // What attention gives the output matrix.
  std::int32_t attended_size() const {
    return num_heads * (latent.size > 0 ? latent.value_dim : value_dim);
  }
  // Of a head's query before it is brought into the latent space.
  std::int32_t latent_query_dim() const { return latent.key_dim + head_dim - latent.size; }
  // Of what is computed from hidden values first: queries, or their vector, and keys and values'.
  std::int32_t latent_inputs() const {
    return (latent.query_size > 0 ? latent.query_size : num_heads * latent_query_dim()) + head_dim;
  }
  std::int32_t q_size() const { return num_heads * head_dim; }
  std::int32_t k_size() const { return num_kv_heads * head_dim; }
  std::int32_t v_size() const { return num_kv_heads * value_dim; }
  std::int32_t qkv_size() const { return q_size() + k_size() + v_size(); }
  bool has_experts(int i) const { return num_experts > 0 && i >= num_dense_layers; }
  // Outputs of the feed-forward network's first product for each of its ffn_size inner values.
  std::int32_t ffn_parts() const { return is_gated(activation) ? 2 : 1; }
};

}  // namespace rocmforge
