// The default bodies of the stages: one primitive after the other, nothing fused.
#include "ops/backend.hpp"

#include <string>

#include "core/error.hpp"

namespace rocmforge {
namespace {

[[noreturn]] void lacks(std::string_view device, const char* primitive) {
  throw Error(ErrorCode::kInternal, std::string(device) + " accepted a model that needs " +
                                        primitive + ", which it has no kernel for");
}

}  // namespace

void Backend::run(Step&, const std::function<void()>& stages) { stages(); }

PreparedActivation Backend::prepare_normed(float* normed, const float* x, const Storage& weight,
                                           std::int64_t rows, std::int64_t n, float eps,
                                           const LinearWeights& user) {
  rms_norm(normed, x, weight, rows, n, eps);
  return prepare_activation(normed, rows, n, user);
}

PreparedActivation Backend::prepare_activated(float* activated, const float* x, std::int64_t rows,
                                              std::int64_t n, const LinearWeights& user) {
  silu_mul(activated, x, rows, n);
  return prepare_activation(activated, rows, n, user);
}

void Backend::normalise(Step& s, float* y, const float* x, const Storage& weight,
                        std::int64_t rows) {
  const DecoderSpec& spec = s.spec;
  if (spec.norm == NormKind::kLayer)
    layer_norm(y, x, weight, rows, spec.hidden_size, spec.norm_eps);
  else
    rms_norm(y, x, weight, rows, spec.hidden_size, spec.norm_eps);
}

void Backend::norm_heads(Step& s, float* x, std::int64_t heads, const Storage& weight) {
  const DecoderSpec& spec = s.spec;
  const std::int64_t tokens = s.batch.num_tokens(), stride = spec.qkv_size(), n = spec.head_dim;
  switch (spec.qk_norm) {
    case QkNorm::kHead:
      return rms_norm_heads(x, tokens, stride, heads, n, weight, spec.norm_eps);
    case QkNorm::kEachHead:
      return layer_norm_heads(x, tokens, stride, heads, n, weight, spec.norm_eps);
    case QkNorm::kWhole:  // all heads as one vector are one head of their size
      if (spec.norm == NormKind::kLayer)
        return layer_norm_heads(x, tokens, stride, 1, heads * n, weight, spec.norm_eps);
      return rms_norm_heads(x, tokens, stride, 1, heads * n, weight, spec.norm_eps);
  }
}

PreparedActivation Backend::layer_input(Step& s, const Storage* norm, const LinearWeights& user) {
  const std::int64_t tokens = s.batch.num_tokens(), n = s.spec.hidden_size;
  float* normed = s.a.normed->floats();
  const float* hidden = s.a.hidden->floats();
  if (!norm) return prepare_activation(hidden, tokens, n, user);
  if (s.spec.norm == NormKind::kRms)
    return prepare_normed(normed, hidden, *norm, tokens, n, s.spec.norm_eps, user);
  normalise(s, normed, hidden, *norm, tokens);
  return prepare_activation(normed, tokens, n, user);
}

void Backend::add_to_hidden(Step& s, float* x, const Storage* post_norm) {
  const std::int64_t tokens = s.batch.num_tokens(), n = s.spec.hidden_size;
  if (post_norm) normalise(s, x, x, *post_norm, tokens);
  if (s.spec.residual_scale != 1.0f) scale(x, s.spec.residual_scale, tokens, n);
  add(s.a.hidden->floats(), x, tokens * n);
}

void Backend::normalise_hidden(Step& s, const Storage* norm) {
  float* hidden = s.a.hidden->floats();
  if (norm) normalise(s, hidden, hidden, *norm, s.batch.num_tokens());
}

PreparedActivation Backend::activated(Step& s, std::int64_t rows, std::int64_t n,
                                      const LinearWeights& user) {
  float* y = s.a.activated->floats();
  const float* x = s.a.gate_up->floats();
  if (s.spec.activation == Activation::kSiluGated) return prepare_activated(y, x, rows, n, user);
  activate(s.spec.activation, y, x, rows, n);
  return prepare_activation(y, rows, n, user);
}

void Backend::embedded(Step& s, const InputWeights& w) {
  const std::int64_t tokens = s.batch.num_tokens(), n = s.spec.hidden_size;
  float* hidden = s.a.hidden->floats();
  if (s.spec.embedding_scale != 1.0f) scale(hidden, s.spec.embedding_scale, tokens, n);
  if (w.type) add_bias(hidden, *w.type, tokens, n);
  if (w.positions) add_positions(s, hidden, *w.positions, n);
  normalise_hidden(s, w.norm.get());
}

void Backend::qkv(Step& s, const LayerWeights& w) {
  const DecoderSpec& spec = s.spec;
  if (spec.latent.size > 0) return latent_qkv(s, w);
  const std::int64_t tokens = s.batch.num_tokens();
  const std::int64_t stride = spec.qkv_size();
  float* q = s.a.qkv->floats();
  float* k = q + spec.q_size();
  float* v = k + spec.k_size();

  linear(q, layer_input(s, w.attn_norm.get(), *w.qkv), *w.qkv);
  if (w.qkv_bias) add_bias(q, *w.qkv_bias, tokens, stride);
  if (w.q_norm) norm_heads(s, q, spec.num_heads, *w.q_norm);
  if (w.k_norm) norm_heads(s, k, spec.num_kv_heads, *w.k_norm);
  if (spec.layer(s.layer).rope != RopeUse::kNone) {
    rope(s, q, stride, spec.num_heads);
    rope(s, k, stride, spec.num_kv_heads);
  }
  store_kv(s, k, v, stride);
}

void Backend::latent_qkv(Step& s, const LayerWeights& w) {
  const DecoderSpec& spec = s.spec;
  const std::int64_t tokens = s.batch.num_tokens(), heads = spec.num_heads;
  const std::int64_t stride = spec.qkv_size(), size = spec.latent.size;
  const std::int64_t rotary = spec.head_dim - size, key_dim = spec.latent.key_dim;
  float* q = s.a.qkv->floats();
  float* k = q + spec.q_size();
  float* v = k + spec.k_size();

  const std::int64_t inputs = spec.latent_inputs();
  float* latent = s.a.latent->floats();
  linear(latent, layer_input(s, w.attn_norm.get(), *w.latent_down), *w.latent_down);

  // Of keys and values: the vector, which is normed and is the value, and what rotates.
  float* source = latent + inputs - spec.head_dim;
  rms_norm_heads(source, tokens, inputs, 1, size, *w.latent_norm, spec.norm_eps);
  copy_heads({k, stride, 0}, {source, inputs, 0}, tokens, 1, spec.head_dim);
  copy_heads({v, stride, 0}, {source, inputs, 0}, tokens, 1, size);

  const std::int64_t query_dim = spec.latent_query_dim();
  Heads queries{latent, inputs, query_dim};
  if (w.latent_query_up) {
    const std::int64_t n = spec.latent.query_size;
    float* normed = s.a.latent_query->floats();
    rms_norm_heads(latent, tokens, inputs, 1, n, *w.latent_query_norm, spec.norm_eps);
    copy_heads({normed, n, 0}, {latent, inputs, 0}, tokens, 1, n);
    queries = {s.a.latent_heads->floats(), heads * query_dim, query_dim};
    linear(queries.x, prepare_activation(normed, tokens, n, *w.latent_query_up),
           *w.latent_query_up);
  }
  linear_heads({q, stride, spec.head_dim}, queries, tokens, *w.latent_key_up);
  copy_heads({q + size, stride, spec.head_dim},
             {queries.x + key_dim, queries.row_stride, queries.head_stride}, tokens, heads, rotary);
  rope(s, q + size, stride, heads);
  rope(s, k + size, stride, 1);
  store_kv(s, k, v, stride);
}

void Backend::store(Step& s) {
  const float* k = s.a.qkv->floats() + s.spec.q_size();
  store_kv(s, k, k + s.spec.k_size(), s.spec.qkv_size());
}

void Backend::attend(Step& s, const LayerWeights& w) {
  s.sinks = w.sinks.get();
  attention(s, s.a.qkv->floats(), s.spec.qkv_size());
}

void Backend::attn_output(Step& s, const LayerWeights& w) {
  const bool parallel = s.spec.parallel_residual;
  const std::int64_t tokens = s.batch.num_tokens();
  float* y = (parallel ? s.a.deferred : s.a.projected)->floats();
  float* x = s.a.attended->floats();
  if (w.latent_value_up) {
    const std::int64_t from = s.spec.value_dim, to = s.spec.latent.value_dim;
    float* values = s.a.latent_heads->floats();
    linear_heads({values, s.spec.attended_size(), to}, {x, s.spec.num_heads * from, from}, tokens,
                 *w.latent_value_up);
    x = values;
  }
  linear(y, prepare_activation(x, tokens, w.attn_output->cols(), *w.attn_output), *w.attn_output);
  if (w.attn_output_bias) add_bias(y, *w.attn_output_bias, tokens, s.spec.hidden_size);
  // With a parallel residual the feed-forward network reads hidden before this is added.
  if (parallel) return;
  if (w.attn_sum_norm_2) {
    add(y, s.a.hidden->floats(), tokens * s.spec.hidden_size);
    add_to_hidden(s, y, w.attn_sum_norm.get());
    normalise_hidden(s, w.attn_sum_norm_2.get());
    return;
  }
  add_to_hidden(s, y, w.attn_post_norm.get());
  normalise_hidden(s, w.attn_sum_norm.get());
}

void Backend::gate_up(Step& s, const LayerWeights& w) {
  const DecoderSpec& spec = s.spec;
  const std::int64_t tokens = s.batch.num_tokens(), hidden = spec.hidden_size;
  const std::int64_t inner = w.gate_up->rows();
  float* normed = s.a.normed->floats();
  float* gate_up = s.a.gate_up->floats();

  if (!w.router) {
    linear(gate_up, layer_input(s, w.ffn_norm.get(), *w.gate_up), *w.gate_up);
    if (w.gate_up_bias) add_bias(gate_up, *w.gate_up_bias, tokens, inner);
    return;
  }
  normalise(s, normed, s.a.hidden->floats(), *w.ffn_norm, tokens);
  float* scores = s.a.router_logits->floats();
  linear(scores, prepare_activation(normed, tokens, hidden, *w.router), *w.router);
  if (w.router_bias) add_bias(scores, *w.router_bias, tokens, spec.num_experts);
  s.a.routing.choice = w.router_choice.get();
  route(s.a.routing, scores, tokens, spec.num_experts, spec.num_experts_used);
  linear_experts(gate_up, prepare_activation(normed, tokens, hidden, *w.gate_up), *w.gate_up,
                 s.a.routing, /*sorted=*/false);
  if (w.gate_up_bias) add_expert_bias(gate_up, *w.gate_up_bias, s.a.routing, inner);
}

void Backend::down(Step& s, const LayerWeights& w) {
  const DecoderSpec& spec = s.spec;
  const std::int64_t tokens = s.batch.num_tokens(), hidden = spec.hidden_size;
  const std::int64_t rows = w.router ? tokens * spec.num_experts_used : tokens;
  const PreparedActivation x = activated(s, rows, w.down->cols(), *w.down);
  float* y = s.a.projected->floats();
  if (w.router) {
    linear_experts(y, x, *w.down, s.a.routing, /*sorted=*/true);
    if (w.down_bias) add_expert_bias(y, *w.down_bias, s.a.routing, hidden);
    combine(s.a.hidden->floats(), y, s.a.routing, tokens, hidden);
    if (w.shared_down) add_shared_expert(s, w);
  } else {
    linear(y, x, *w.down);
    if (w.down_bias) add_bias(y, *w.down_bias, tokens, hidden);
    add_to_hidden(s, y, w.ffn_post_norm.get());
  }
  if (spec.parallel_residual) add_to_hidden(s, s.a.deferred->floats(), w.attn_post_norm.get());
  normalise_hidden(s, w.ffn_sum_norm.get());
}

// gate_up() has left its input in `normed`.
void Backend::add_shared_expert(Step& s, const LayerWeights& w) {
  const DecoderSpec& spec = s.spec;
  const std::int64_t tokens = s.batch.num_tokens(), hidden = spec.hidden_size;
  const float* x = s.a.normed->floats();
  float* y = s.a.projected->floats();
  linear(s.a.gate_up->floats(), prepare_activation(x, tokens, hidden, *w.shared_gate_up),
         *w.shared_gate_up);
  linear(y, activated(s, tokens, w.shared_down->cols(), *w.shared_down), *w.shared_down);
  if (w.shared_router) {
    float* share = s.a.router_logits->floats();
    linear(share, prepare_activation(x, tokens, hidden, *w.shared_router), *w.shared_router);
    gate_rows(y, share, tokens, hidden);
  }
  add_to_hidden(s, y, nullptr);
}

void Backend::head(Step& s, const Storage& norm) {
  const std::int64_t rows = s.batch.num_logit_rows();
  float* normed = s.a.head_normed->floats();
  gather_rows(normed, s.a.hidden->floats(), s.batch.logit_rows, s.spec.hidden_size);
  normalise(s, normed, normed, norm, rows);
}

void Backend::output(Activations& a, std::int64_t rows, const LinearWeights& w) {
  linear(a.logits->floats(), prepare_activation(a.head_normed->floats(), rows, w.cols(), w), w);
}

void Backend::multiply(float* y, const float* x, std::int64_t rows, const LinearWeights& w) {
  linear(y, prepare_activation(x, rows, w.cols(), w), w);
}

void Backend::finish_logits(const DecoderSpec& spec, Activations& a, std::int64_t rows,
                            const Storage* bias) {
  float* logits = a.logits->floats();
  if (spec.logit_scale != 1.0f) scale(logits, spec.logit_scale, rows, spec.vocab_size);
  if (bias) add_bias(logits, *bias, rows, spec.vocab_size);
  if (spec.logit_cap != 0.0f) soft_cap(logits, spec.logit_cap, rows, spec.vocab_size);
}

bool Backend::draws(const SamplingBatch&) const { return false; }

std::int64_t Backend::draw(const Storage&, const SamplingBatch&) { lacks(name(), "draws"); }

std::span<const std::int32_t> Backend::wait_for(std::int64_t) { lacks(name(), "draws"); }

void Backend::layer_norm(float*, const float*, const Storage&, std::int64_t, std::int64_t, float) {
  lacks(name(), "layer norms");
}

void Backend::layer_norm_heads(float*, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                               const Storage&, float) {
  lacks(name(), "layer norms of heads");
}

void Backend::copy_heads(const Heads&, const Heads&, std::int64_t, std::int64_t, std::int64_t) {
  lacks(name(), "latent attention");
}

void Backend::linear_heads(const Heads&, const Heads&, std::int64_t, const LinearWeights&) {
  lacks(name(), "latent attention");
}

void Backend::activate(Activation, float*, const float*, std::int64_t, std::int64_t) {
  lacks(name(), "another activation than SiLU");
}

void Backend::scale(float*, float, std::int64_t, std::int64_t) { lacks(name(), "scaled sums"); }

void Backend::soft_cap(float*, float, std::int64_t, std::int64_t) {
  lacks(name(), "capped logits");
}

void Backend::gate_rows(float*, const float*, std::int64_t, std::int64_t) {
  lacks(name(), "a gated shared expert");
}

void Backend::add_positions(Step&, float*, const Storage&, std::int64_t) {
  lacks(name(), "position embeddings");
}

void Backend::add_expert_bias(float*, const Storage&, const Routing&, std::int64_t) {
  lacks(name(), "biases of experts");
}

}  // namespace rocmforge
