#include "model/weights.hpp"

#include <algorithm>
#include <initializer_list>
#include <string>

#include "core/error.hpp"

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

std::span<const float> floats(const Tensor& t, const std::string& name) {
  if (t.format != quant::Format::kF32)
    throw Error(ErrorCode::kInternal, "vector " + name + " has to be float32 by now");
  return {static_cast<const float*>(t.data), static_cast<std::size_t>(t.cols)};
}

StoragePtr vector(Backend& backend, const WeightMap& weights, const std::string& name,
                  std::int64_t n) {
  return backend.upload(floats(need(weights, name, {1, 1, n}), name));
}

StoragePtr optional_vector(Backend& backend, const WeightMap& weights, const std::string& name,
                           std::int64_t n) {
  const Tensor* t = find(weights, name, {1, 1, n});
  return t ? backend.upload(floats(*t, name)) : nullptr;
}

struct NamedSize {
  std::string name;
  std::int64_t n;
};

// The biases of a group as one vector, zeros for those it lacks; null if the file has none.
StoragePtr group_bias(Backend& backend, const WeightMap& weights,
                      std::initializer_list<NamedSize> parts) {
  std::vector<float> all;
  bool any = false;
  for (const auto& [name, n] : parts) {
    const Tensor* t = find(weights, name, {1, 1, n});
    any = any || t;
    all.resize(all.size() + static_cast<std::size_t>(n), 0.0f);
    if (!t) continue;
    const std::span<const float> values = floats(*t, name);
    std::copy(values.begin(), values.end(), all.end() - n);
  }
  return any ? backend.upload(all) : nullptr;
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
  const std::int64_t hidden = spec.hidden_size, ffn = spec.ffn_size;
  LayerWeights w;

  w.attn_norm = vector(backend, weights, p + "attn_norm.weight", hidden);
  const Tensor qkv[] = {need(weights, p + "attn_q.weight", {1, spec.q_size(), hidden}),
                        need(weights, p + "attn_k.weight", {1, spec.k_size(), hidden}),
                        need(weights, p + "attn_v.weight", {1, spec.v_size(), hidden})};
  w.qkv = backend.prepare(qkv, WeightUse::kProducts);
  w.qkv_bias = group_bias(backend, weights,
                          {{p + "attn_q.bias", spec.q_size()},
                           {p + "attn_k.bias", spec.k_size()},
                           {p + "attn_v.bias", spec.v_size()}});
  w.q_norm = optional_vector(backend, weights, p + "attn_q_norm.weight", spec.head_dim);
  w.k_norm = optional_vector(backend, weights, p + "attn_k_norm.weight", spec.head_dim);
  const Tensor output[] = {
      need(weights, p + "attn_output.weight", {1, hidden, spec.num_heads * spec.value_dim})};
  w.attn_output = backend.prepare(output, WeightUse::kProducts);
  w.attn_output_bias = optional_vector(backend, weights, p + "attn_output.bias", hidden);

  w.ffn_norm = vector(backend, weights, p + "ffn_norm.weight", hidden);
  const std::int64_t experts = spec.num_experts > 0 ? spec.num_experts : 1;
  const std::string suffix = spec.num_experts > 0 ? "_exps.weight" : ".weight";
  if (spec.num_experts > 0) {
    const Tensor router[] = {need(weights, p + "ffn_gate_inp.weight", {1, experts, hidden})};
    w.router = backend.prepare(router, WeightUse::kExact);
  }
  const Tensor gate_up[] = {need(weights, p + "ffn_gate" + suffix, {experts, ffn, hidden}),
                            need(weights, p + "ffn_up" + suffix, {experts, ffn, hidden})};
  w.gate_up = backend.prepare(gate_up, WeightUse::kProducts);
  const Tensor down[] = {need(weights, p + "ffn_down" + suffix, {experts, hidden, ffn})};
  w.down = backend.prepare(down, WeightUse::kProducts);
  if (spec.num_experts == 0) {
    w.gate_up_bias =
        group_bias(backend, weights, {{p + "ffn_gate.bias", ffn}, {p + "ffn_up.bias", ffn}});
    w.down_bias = optional_vector(backend, weights, p + "ffn_down.bias", hidden);
  }
  return w;
}

StoragePtr load_output_norm(Backend& backend, const DecoderSpec& spec, const WeightMap& weights) {
  return vector(backend, weights, "output_norm.weight", spec.hidden_size);
}

bool is_tied(const WeightMap& weights) { return !weights.contains("output.weight"); }

LinearPtr load_output(Backend& backend, const DecoderSpec& spec, const WeightMap& weights) {
  const Tensor parts[] = {need(weights, is_tied(weights) ? "token_embd.weight" : "output.weight",
                               {1, spec.vocab_size, spec.hidden_size})};
  return backend.prepare(parts, WeightUse::kProducts);
}

}  // namespace rocmforge
