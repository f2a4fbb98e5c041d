#include "model/weights.hpp"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "cpu/kernels.hpp"

namespace rocmforge {
namespace {

struct Shape {
  std::int64_t num_matrices, rows, cols;
};

std::string text(const Shape& s) {
  std::string out = s.num_matrices == 1 ? "" : std::to_string(s.num_matrices) + " x ";
  return out + "[" + std::to_string(s.rows) + ", " + std::to_string(s.cols) + "]";
}

const Tensor* find(const WeightMap& weights, const std::string& name, const Shape& want) {
  const auto it = weights.find(name);
  if (it == weights.end()) return nullptr;
  const Tensor& t = it->second;
  if (t.num_matrices != want.num_matrices || t.rows != want.rows || t.cols != want.cols)
    throw Error(ErrorCode::kModelFile, "tensor " + name + " is " +
                                           text({t.num_matrices, t.rows, t.cols}) +
                                           " where the model's sizes need " + text(want));
  return &t;
}

const Tensor& need(const WeightMap& weights, const std::string& name, const Shape& want) {
  const Tensor* t = find(weights, name, want);
  if (!t) throw Error(ErrorCode::kModelFile, "tensor " + name + " is missing");
  return *t;
}

// Vectors are float32 on every device, whatever the file has them in.
std::vector<float> floats(const Tensor& t) {
  std::vector<float> values(static_cast<std::size_t>(t.rows * t.cols));
  const auto decode = cpu::kernels().dequantize[static_cast<int>(t.format)];
  for (std::int64_t r = 0; r < t.rows; ++r)
    decode(values.data() + r * t.cols, static_cast<const std::byte*>(t.data) + r * t.row_bytes(),
           t.cols);
  return values;
}

StoragePtr vector(Backend& backend, const WeightMap& weights, const std::string& name,
                  std::int64_t n) {
  return backend.upload(floats(need(weights, name, {1, 1, n})));
}

StoragePtr optional_vector(Backend& backend, const WeightMap& weights, const std::string& name,
                           std::int64_t n) {
  const Tensor* t = find(weights, name, {1, 1, n});
  return t ? backend.upload(floats(*t)) : nullptr;
}

// Weights of a norm over n values, as its kind stores them; null if the file has none.
StoragePtr optional_norm(Backend& backend, const DecoderSpec& spec, const WeightMap& weights,
                         const std::string& name, std::int64_t n) {
  const Tensor* weight = find(weights, name + ".weight", {1, 1, n});
  if (!weight) return nullptr;
  std::vector<float> all = floats(*weight);
  if (spec.norm == NormKind::kRms) return backend.upload(all);
  all.resize(static_cast<std::size_t>(2 * n), 0.0f);
  if (const Tensor* bias = find(weights, name + ".bias", {1, 1, n})) {
    const std::vector<float> shift = floats(*bias);
    std::copy(shift.begin(), shift.end(), all.begin() + n);
  }
  return backend.upload(all);
}

struct NamedSize {
  std::string name;
  std::int64_t n;
};

// The biases of a group side by side, [matrices, sum of the parts], zeros for those it lacks; null
// if the file has none.
StoragePtr group_bias(Backend& backend, const WeightMap& weights,
                      std::initializer_list<NamedSize> parts, std::int64_t matrices = 1) {
  std::int64_t width = 0;
  for (const NamedSize& part : parts) width += part.n;
  std::vector<float> all(static_cast<std::size_t>(matrices * width), 0.0f);
  bool any = false;
  std::int64_t column = 0;
  for (const auto& [name, n] : parts) {
    if (const Tensor* t = find(weights, name, {1, matrices, n})) {
      any = true;
      const std::vector<float> values = floats(*t);
      for (std::int64_t m = 0; m < matrices; ++m)
        std::copy_n(values.begin() + m * n, n, all.begin() + m * width + column);
    }
    column += n;
  }
  return any ? backend.upload(all) : nullptr;
}

// A group of matrices that share their input, in the order given.
LinearPtr group(Backend& backend, const WeightMap& weights, std::initializer_list<NamedSize> parts,
                std::int64_t cols, std::int64_t matrices = 1) {
  std::vector<Tensor> tensors;
  for (const auto& [name, rows] : parts)
    tensors.push_back(need(weights, name, {matrices, rows, cols}));
  return backend.prepare(tensors, WeightUse::kProducts);
}

void load_attention(LayerWeights& w, Backend& backend, const DecoderSpec& spec,
                    const WeightMap& weights, const std::string& p) {
  const std::int64_t hidden = spec.hidden_size;
  w.qkv = group(backend, weights,
                {{p + "attn_q.weight", spec.q_size()},
                 {p + "attn_k.weight", spec.k_size()},
                 {p + "attn_v.weight", spec.v_size()}},
                hidden);
  w.qkv_bias = group_bias(backend, weights,
                          {{p + "attn_q.bias", spec.q_size()},
                           {p + "attn_k.bias", spec.k_size()},
                           {p + "attn_v.bias", spec.v_size()}});
  if (spec.norm == NormKind::kLayer) {
    w.q_norm = optional_norm(backend, spec, weights, p + "attn_q_norm", spec.q_size());
    w.k_norm = optional_norm(backend, spec, weights, p + "attn_k_norm", spec.k_size());
  } else {
    const bool whole = spec.qk_norm == QkNorm::kWhole;
    w.q_norm = optional_vector(backend, weights, p + "attn_q_norm.weight",
                               whole ? spec.q_size() : spec.head_dim);
    w.k_norm = optional_vector(backend, weights, p + "attn_k_norm.weight",
                               whole ? spec.k_size() : spec.head_dim);
  }
  if (spec.attention_sinks)
    w.sinks = vector(backend, weights, p + "attn_sinks.weight", spec.num_heads);
}

void load_latent_attention(LayerWeights& w, Backend& backend, const DecoderSpec& spec,
                           const WeightMap& weights, const std::string& p) {
  const std::int64_t hidden = spec.hidden_size, heads = spec.num_heads;
  const LatentSpec& latent = spec.latent;
  const std::int64_t queries = heads * spec.latent_query_dim();
  const NamedSize keys{p + "attn_kv_a_mqa.weight", spec.head_dim};
  if (latent.query_size > 0) {
    w.latent_down =
        group(backend, weights, {{p + "attn_q_a.weight", latent.query_size}, keys}, hidden);
    w.latent_query_norm = vector(backend, weights, p + "attn_q_a_norm.weight", latent.query_size);
    w.latent_query_up =
        group(backend, weights, {{p + "attn_q_b.weight", queries}}, latent.query_size);
  } else {
    w.latent_down = group(backend, weights, {{p + "attn_q.weight", queries}, keys}, hidden);
  }
  w.latent_norm = vector(backend, weights, p + "attn_kv_a_norm.weight", latent.size);
  w.latent_key_up =
      group(backend, weights, {{p + "attn_k_b.weight", latent.size}}, latent.key_dim, heads);
  w.latent_value_up =
      group(backend, weights, {{p + "attn_v_b.weight", latent.value_dim}}, latent.size, heads);
}

void load_experts(LayerWeights& w, Backend& backend, const DecoderSpec& spec,
                  const WeightMap& weights, const std::string& p) {
  const std::int64_t hidden = spec.hidden_size, ffn = spec.ffn_size, experts = spec.num_experts;
  check(w.ffn_norm != nullptr, ErrorCode::kModelFile, "experts need a norm before them");
  const Tensor router[] = {need(weights, p + "ffn_gate_inp.weight", {1, experts, hidden})};
  w.router = backend.prepare(router, WeightUse::kExact);
  w.router_choice = optional_vector(backend, weights, p + "exp_probs_b.bias", experts);
  w.router_bias = optional_vector(backend, weights, p + "ffn_gate_inp.bias", experts);
  w.gate_up =
      group(backend, weights, {{p + "ffn_gate_exps.weight", ffn}, {p + "ffn_up_exps.weight", ffn}},
            hidden, experts);
  w.gate_up_bias = group_bias(
      backend, weights, {{p + "ffn_gate_exps.bias", ffn}, {p + "ffn_up_exps.bias", ffn}}, experts);
  w.down = group(backend, weights, {{p + "ffn_down_exps.weight", hidden}}, ffn, experts);
  w.down_bias = group_bias(backend, weights, {{p + "ffn_down_exps.bias", hidden}}, experts);
  const std::int64_t shared = spec.shared_ffn_size;
  if (shared == 0) return;
  w.shared_gate_up =
      group(backend, weights,
            {{p + "ffn_gate_shexp.weight", shared}, {p + "ffn_up_shexp.weight", shared}}, hidden);
  w.shared_down = group(backend, weights, {{p + "ffn_down_shexp.weight", hidden}}, shared);
  const std::string share = p + "ffn_gate_inp_shexp.weight";
  if (const Tensor* t = find(weights, share, {1, 1, hidden}))
    w.shared_router = backend.prepare({t, 1}, WeightUse::kExact);
}

void load_feed_forward(LayerWeights& w, Backend& backend, const DecoderSpec& spec,
                       const WeightMap& weights, const std::string& p) {
  const std::int64_t hidden = spec.hidden_size;
  const std::int64_t ffn = spec.num_experts > 0 ? spec.dense_ffn_size : spec.ffn_size;
  if (is_gated(spec.activation)) {
    w.gate_up =
        group(backend, weights, {{p + "ffn_gate.weight", ffn}, {p + "ffn_up.weight", ffn}}, hidden);
    w.gate_up_bias =
        group_bias(backend, weights, {{p + "ffn_gate.bias", ffn}, {p + "ffn_up.bias", ffn}});
  } else {
    w.gate_up = group(backend, weights, {{p + "ffn_up.weight", ffn}}, hidden);
    w.gate_up_bias = optional_vector(backend, weights, p + "ffn_up.bias", ffn);
  }
  w.down = group(backend, weights, {{p + "ffn_down.weight", hidden}}, ffn);
  w.down_bias = optional_vector(backend, weights, p + "ffn_down.bias", hidden);
}

}  // namespace

LinearPtr load_embedding(Backend& backend, const DecoderSpec& spec, const WeightMap& weights,
                         WeightUse use) {
  const Tensor parts[] = {
      need(weights, "token_embd.weight", {1, spec.vocab_size, spec.hidden_size})};
  return backend.prepare(parts, use);
}

LayerWeights load_layer(Backend& backend, const DecoderSpec& spec, const WeightMap& weights,
                        int layer) {
  const std::string p = "blk." + std::to_string(layer) + ".";
  LayerWeights w;
  const std::int64_t hidden = spec.hidden_size;
  w.attn_norm = optional_norm(backend, spec, weights, p + "attn_norm", hidden);
  if (spec.latent.size > 0)
    load_latent_attention(w, backend, spec, weights, p);
  else
    load_attention(w, backend, spec, weights, p);
  w.attn_output =
      group(backend, weights, {{p + "attn_output.weight", hidden}}, spec.attended_size());
  w.attn_output_bias = optional_vector(backend, weights, p + "attn_output.bias", hidden);
  w.attn_post_norm = optional_norm(backend, spec, weights, p + "post_attention_norm", hidden);
  w.attn_sum_norm = optional_norm(backend, spec, weights, p + "attn_output_norm", hidden);
  w.attn_sum_norm_2 = optional_norm(backend, spec, weights, p + "attn_norm_2", hidden);
  w.ffn_norm = optional_norm(backend, spec, weights, p + "ffn_norm", hidden);
  // With a parallel residual one norm may serve both.
  if (!w.ffn_norm && spec.parallel_residual)
    w.ffn_norm = optional_norm(backend, spec, weights, p + "attn_norm", hidden);
  if (spec.has_experts(layer))
    load_experts(w, backend, spec, weights, p);
  else
    load_feed_forward(w, backend, spec, weights, p);
  w.ffn_post_norm = optional_norm(backend, spec, weights, p + "post_ffw_norm", hidden);
  w.ffn_sum_norm = optional_norm(backend, spec, weights, p + "layer_output_norm", hidden);
  return w;
}

InputWeights load_input(Backend& backend, const DecoderSpec& spec, const WeightMap& weights) {
  const std::int64_t hidden = spec.hidden_size;
  InputWeights w;
  w.type = optional_vector(backend, weights, "token_types.weight", hidden);
  if (spec.num_positions > 0) {
    const std::string name = "position_embd.weight";
    w.positions = backend.upload(floats(need(weights, name, {1, spec.num_positions, hidden})));
  }
  w.norm = optional_norm(backend, spec, weights, "token_embd_norm", hidden);
  return w;
}

StoragePtr load_output_norm(Backend& backend, const DecoderSpec& spec, const WeightMap& weights) {
  StoragePtr norm = optional_norm(backend, spec, weights, "output_norm", spec.hidden_size);
  if (!norm) throw Error(ErrorCode::kModelFile, "tensor output_norm.weight is missing");
  return norm;
}

bool is_tied(const WeightMap& weights) { return !weights.contains("output.weight"); }

LinearPtr load_output(Backend& backend, const DecoderSpec& spec, const WeightMap& weights) {
  const Tensor parts[] = {need(weights, is_tied(weights) ? "token_embd.weight" : "output.weight",
                               {1, spec.vocab_size, spec.hidden_size})};
  return backend.prepare(parts, WeightUse::kProducts);
}

StoragePtr load_output_bias(Backend& backend, const DecoderSpec& spec, const WeightMap& weights) {
  if (!spec.output_bias) return nullptr;
  return vector(backend, weights, "output.bias", spec.vocab_size);
}

}  // namespace rocmforge
