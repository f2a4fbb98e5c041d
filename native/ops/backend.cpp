// The default bodies of the stages: one primitive after the other, nothing fused.
#include "ops/backend.hpp"

namespace rocmforge {

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

void Backend::qkv(Step& s, const LayerWeights& w) {
  const DecoderSpec& spec = s.spec;
  const std::int64_t tokens = s.batch.num_tokens();
  const std::int64_t stride = spec.qkv_size();
  float* q = s.a.qkv->floats();
  float* k = q + spec.q_size();
  float* v = k + spec.k_size();

  linear(q,
         prepare_normed(s.a.normed->floats(), s.a.hidden->floats(), *w.attn_norm, tokens,
                        spec.hidden_size, spec.norm_eps, *w.qkv),
         *w.qkv);
  if (w.qkv_bias) add_bias(q, *w.qkv_bias, tokens, stride);
  if (w.q_norm)
    rms_norm_heads(q, tokens, stride, spec.num_heads, spec.head_dim, *w.q_norm, spec.norm_eps);
  if (w.k_norm)
    rms_norm_heads(k, tokens, stride, spec.num_kv_heads, spec.head_dim, *w.k_norm, spec.norm_eps);
  rope(s, q, stride, spec.num_heads);
  rope(s, k, stride, spec.num_kv_heads);
  store_kv(s, k, v, stride);
}

void Backend::store(Step& s) {
  const float* k = s.a.qkv->floats() + s.spec.q_size();
  store_kv(s, k, k + s.spec.k_size(), s.spec.qkv_size());
}

void Backend::attend(Step& s, const LayerWeights&) {
  attention(s, s.a.qkv->floats(), s.spec.qkv_size());
}

void Backend::attn_output(Step& s, const LayerWeights& w) {
  const std::int64_t tokens = s.batch.num_tokens();
  const std::int64_t hidden = s.spec.hidden_size;
  const float* x = s.a.attended->floats();
  float* y = s.a.projected->floats();
  linear(y, prepare_activation(x, tokens, w.attn_output->cols(), *w.attn_output), *w.attn_output);
  if (w.attn_output_bias) add_bias(y, *w.attn_output_bias, tokens, hidden);
  add(s.a.hidden->floats(), y, tokens * hidden);
}

void Backend::gate_up(Step& s, const LayerWeights& w) {
  const DecoderSpec& spec = s.spec;
  const std::int64_t tokens = s.batch.num_tokens();
  float* normed = s.a.normed->floats();
  float* gate_up = s.a.gate_up->floats();

  if (!w.router) {
    linear(gate_up,
           prepare_normed(normed, s.a.hidden->floats(), *w.ffn_norm, tokens, spec.hidden_size,
                          spec.norm_eps, *w.gate_up),
           *w.gate_up);
    if (w.gate_up_bias) add_bias(gate_up, *w.gate_up_bias, tokens, 2 * spec.ffn_size);
    return;
  }
  rms_norm(normed, s.a.hidden->floats(), *w.ffn_norm, tokens, spec.hidden_size, spec.norm_eps);
  float* scores = s.a.router_logits->floats();
  linear(scores, prepare_activation(normed, tokens, spec.hidden_size, *w.router), *w.router);
  route(s.a.routing, scores, tokens, spec.num_experts, spec.num_experts_used);
  linear_experts(gate_up, prepare_activation(normed, tokens, spec.hidden_size, *w.gate_up),
                 *w.gate_up, s.a.routing, /*sorted=*/false);
}

void Backend::down(Step& s, const LayerWeights& w) {
  const DecoderSpec& spec = s.spec;
  const std::int64_t tokens = s.batch.num_tokens();
  const std::int64_t rows = w.router ? tokens * spec.num_experts_used : tokens;
  const PreparedActivation x = prepare_activated(s.a.activated->floats(), s.a.gate_up->floats(),
                                                 rows, spec.ffn_size, *w.down);
  float* y = s.a.projected->floats();
  if (w.router) {
    linear_experts(y, x, *w.down, s.a.routing, /*sorted=*/true);
    combine(s.a.hidden->floats(), y, s.a.routing, tokens, spec.hidden_size);
  } else {
    linear(y, x, *w.down);
    if (w.down_bias) add_bias(y, *w.down_bias, tokens, spec.hidden_size);
    add(s.a.hidden->floats(), y, tokens * spec.hidden_size);
  }
}

void Backend::head(Step& s, const Storage& norm) {
  const std::int64_t rows = s.batch.num_logit_rows();
  const std::int64_t hidden = s.spec.hidden_size;
  float* normed = s.a.head_normed->floats();
  gather_rows(normed, s.a.hidden->floats(), s.batch.logit_rows, hidden);
  rms_norm(normed, normed, norm, rows, hidden, s.spec.norm_eps);
}

void Backend::output(Activations& a, std::int64_t rows, const LinearWeights& w) {
  linear(a.logits->floats(), prepare_activation(a.head_normed->floats(), rows, w.cols(), w), w);
}

}  // namespace rocmforge
