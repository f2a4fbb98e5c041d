// The forward pass, once, for every device and every architecture. What varies between
// architectures is data in DecoderSpec; a null weight means the architecture lacks that step.
#include "model/decoder.hpp"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "core/error.hpp"
#include "model/weights.hpp"

namespace rocmforge {
namespace {

void check_spec(const DecoderSpec& s) {
  constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;
  check(s.num_layers > 0 && s.hidden_size > 0 && s.num_heads > 0 && s.num_kv_heads > 0 &&
            s.head_dim > 0 && s.value_dim > 0 && s.ffn_size > 0 && s.vocab_size > 0,
        kCode, "every size of a decoder must be positive");
  check(s.num_heads % s.num_kv_heads == 0, kCode, "num_heads must be a multiple of num_kv_heads");
  for (const RopeSpec* rope : {&s.rope, &s.local_rope})
    check(2 * rope->inv_freq.size() <= static_cast<std::size_t>(s.head_dim), kCode,
          "the rotary dimension is at most head_dim");
  check(s.num_experts >= 0 && s.num_experts_used <= s.num_experts &&
            (s.num_experts == 0 || s.num_experts_used > 0),
        kCode, "num_experts_used must be between 1 and num_experts");
  check(s.num_dense_layers >= 0 && (s.num_dense_layers == 0 || s.dense_ffn_size > 0), kCode,
        "dense layers of a model with experts need a size");
  check(s.num_experts == 0 || is_gated(s.activation), kCode, "experts need a gated activation");
  check(s.num_experts == 0 || !s.parallel_residual, kCode, "experts go with no parallel residual");
  check(s.qk_norm != QkNorm::kEachHead || s.norm == NormKind::kLayer, kCode,
        "weights for each head are those of layer norms");
  const LatentSpec& l = s.latent;
  check(l.size >= 0 && l.query_size >= 0 && l.key_dim >= 0 && l.value_dim >= 0, kCode,
        "sizes must not be negative");
  check(l.size == 0 || (s.num_kv_heads == 1 && s.value_dim == l.size && s.head_dim > l.size &&
                        l.key_dim > 0 && l.value_dim > 0),
        kCode, "latent attention has one vector a token and a part of keys that rotates");
  check(l.size == 0 || 2 * s.rope.inv_freq.size() <= static_cast<std::size_t>(s.head_dim - l.size),
        kCode, "the rotary dimension is at most the part of keys that rotates");
  check(s.layers.empty() || s.layers.size() == static_cast<std::size_t>(s.num_layers), kCode,
        "layers has to be empty or to describe every layer");
  for (const LayerSpec& layer : s.layers)
    check(layer.window >= 0, kCode, "a window is a number of positions");
  check(s.shared_ffn_size >= 0 && s.num_positions >= 0, kCode, "sizes must not be negative");
  check(s.distance_slopes.empty() ||
            s.distance_slopes.size() == static_cast<std::size_t>(s.num_heads),
        kCode, "every head has a slope, or none");
}

[[noreturn]] void reject(const char* what, std::int64_t value, std::int64_t limit) {
  throw Error(ErrorCode::kInvalidArgument, std::string("batch: ") + what + " " +
                                               std::to_string(value) + " is outside [0, " +
                                               std::to_string(limit) + ")");
}

void check_all(const char* what, std::span<const std::int32_t> values, std::int64_t limit) {
  for (const std::int32_t v : values)
    if (v < 0 || v >= limit) reject(what, v, limit);
}

struct LayerBytes {
  std::int64_t all = 0, of_a_token = 0;  // of a token: without the experts it does not go to
};

LayerBytes bytes_of(const LayerWeights& w, const DecoderSpec& spec) {
  LayerBytes bytes;
  for (const LinearPtr* part :
       {&w.qkv, &w.latent_down, &w.latent_query_up, &w.latent_key_up, &w.latent_value_up,
        &w.attn_output, &w.router, &w.shared_gate_up, &w.shared_down, &w.shared_router})
    if (*part) bytes.all += (*part)->bytes();
  bytes.of_a_token = bytes.all;
  const std::int64_t feed_forward = w.gate_up->bytes() + w.down->bytes();
  bytes.all += feed_forward;
  bytes.of_a_token +=
      w.router ? feed_forward / spec.num_experts * spec.num_experts_used : feed_forward;
  return bytes;
}

}  // namespace

Decoder::Decoder(std::vector<std::unique_ptr<Backend>> backends, const DecoderPlacement& placement,
                 DecoderSpec spec, const WeightMap& weights, const DecoderLimits& limits,
                 LoadProgress* progress)
    : spec_(std::move(spec)), limits_(limits) {
  check_spec(spec_);
  check(limits_.max_num_tokens > 0 && limits_.max_model_len > 0, ErrorCode::kInvalidArgument,
        "max_num_tokens and max_model_len must be positive");
  check(spec_.num_positions == 0 || limits_.max_model_len <= spec_.num_positions,
        ErrorCode::kInvalidArgument, "max_model_len is above the number of position embeddings");
  for (std::unique_ptr<Backend>& backend : backends) {
    devices_.push_back({std::move(backend), spec_, nullptr, {}});
    devices_.back().spec.num_layers = 0;
    devices_.back().spec.layers.clear();
  }
  place(placement);

  const auto backend_of = [this](int device) -> Backend& {
    return *devices_[static_cast<std::size_t>(device)].backend;
  };
  const auto loaded = [progress](std::int64_t bytes) {
    if (progress) progress->bytes.fetch_add(bytes, std::memory_order_relaxed);
  };
  const bool has_output = spec_.causal;
  const bool one_matrix = has_output && is_tied(weights) && placement.embedding == placement.output;
  embedding_ = load_embedding(backend_of(placement.embedding), spec_, weights,
                              one_matrix ? WeightUse::kProducts : WeightUse::kTable);
  input_ = load_input(backend_of(placement.embedding), spec_, weights);
  loaded(embedding_->bytes());
  Backend& head = backend_of(placement.output);
  output_norm_ = load_output_norm(head, spec_, weights);
  if (has_output && !one_matrix) output_ = load_output(head, spec_, weights);
  output_bias_ = load_output_bias(head, spec_, weights);
  if (has_output) weight_bytes_ = (output_ ? output_ : embedding_)->bytes();
  if (output_) loaded(output_->bytes());
  for (const Section& section : sections_)
    for (int i = section.begin; i < section.end; ++i) {
      layers_.push_back(load_layer(backend_of(section.device), spec_, weights, i));
      const LayerBytes bytes = bytes_of(layers_.back(), spec_);
      weight_bytes_ += bytes.of_a_token;
      loaded(bytes.all);
    }
  for (Device& device : devices_) {
    device.kv = device.backend->create_kv_cache(device.spec, limits_.kv_type, limits_.num_blocks,
                                                limits_.block_size);
    allocate_activations(device, device.spec.num_layers > 0);
  }
  for (std::size_t i = 1; i < sections_.size(); ++i) {
    Device& device = devices_[static_cast<std::size_t>(sections_[i].device)];
    if (!device.activations.incoming)
      device.activations.incoming =
          allocate_floats(device, limits_.max_num_tokens * spec_.hidden_size);
  }
}

// Cuts the pass, embedding to head, where the device changes.
void Decoder::place(const DecoderPlacement& p) {
  const auto num_devices = static_cast<int>(devices_.size());
  const auto layers = static_cast<std::size_t>(spec_.num_layers);
  const auto section_on = [&](int device) -> Section& {
    check(device >= 0 && device < num_devices, ErrorCode::kInvalidArgument,
          "a part of the model is placed on a device there is not");
    if (sections_.empty() || sections_.back().device != device) {
      const int layer = sections_.empty() ? 0 : sections_.back().end;
      sections_.push_back({.device = device, .begin = layer, .end = layer});
      sections_.back().first_device_layer =
          devices_[static_cast<std::size_t>(device)].spec.num_layers;
    }
    return sections_.back();
  };
  check(p.layers.empty() || p.layers.size() == layers, ErrorCode::kInvalidArgument,
        "a placement names a device for every layer");
  section_on(p.embedding).has_embedding = true;
  for (std::size_t i = 0; i < layers; ++i) {
    Section& section = section_on(p.layers.empty() ? 0 : p.layers[i]);
    ++section.end;
    DecoderSpec& there = devices_[static_cast<std::size_t>(section.device)].spec;
    ++there.num_layers;
    if (!spec_.layers.empty()) there.layers.push_back(spec_.layers[i]);
  }
  section_on(p.output).has_head = true;
}

void Decoder::allocate_activations(Device& device, bool has_layers) {
  const std::int64_t tokens = limits_.max_num_tokens;
  const std::int64_t slots = tokens * std::max(spec_.num_experts_used, 1);
  Activations& a = device.activations;
  a.hidden = allocate_floats(device, tokens * spec_.hidden_size);
  if (!has_layers) return;
  a.normed = allocate_floats(device, tokens * spec_.hidden_size);
  a.qkv = allocate_floats(device, tokens * spec_.qkv_size());
  a.attended = allocate_floats(device, tokens * spec_.num_heads * spec_.value_dim);
  const std::int64_t inner = std::max(
      slots * spec_.ffn_size, tokens * std::max(spec_.shared_ffn_size, spec_.dense_ffn_size));
  a.gate_up = allocate_floats(device, inner * spec_.ffn_parts());
  a.activated = allocate_floats(device, inner);
  a.projected = allocate_floats(device, slots * spec_.hidden_size);
  if (spec_.latent.size > 0) {
    a.latent = allocate_floats(device, tokens * spec_.latent_inputs());
    a.latent_query = allocate_floats(device, tokens * spec_.latent.query_size);
    a.latent_heads = allocate_floats(
        device,
        tokens * std::max(spec_.num_heads * spec_.latent_query_dim(), spec_.attended_size()));
  }
  if (spec_.parallel_residual) a.deferred = allocate_floats(device, tokens * spec_.hidden_size);
  a.router_logits = allocate_floats(device, tokens * spec_.num_experts);
  a.routing.sums_to_one = spec_.expert_weights_sum_to_one;
  a.routing.gate = spec_.expert_gate;
  a.routing.scale = spec_.residual_scale * spec_.expert_weights_scale;
}

StoragePtr Decoder::allocate_floats(Device& device, std::int64_t count) {
  const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(float));
  activation_bytes_ += bytes;
  return device.backend->allocate(bytes);
}

std::int64_t Decoder::kv_bytes() const {
  std::int64_t sum = 0;
  for (const Device& device : devices_) sum += device.kv->bytes();
  return sum;
}

std::int64_t Decoder::kv_block_bytes() const {
  std::int64_t sum = 0;
  for (const Device& device : devices_) sum += device.kv->block_bytes();
  return sum;
}

void Decoder::read_kv(std::int64_t block, std::byte* to) const {
  if (block < 0 || block >= limits_.num_blocks) reject("block id", block, limits_.num_blocks);
  for (const Device& device : devices_) {
    device.backend->read_kv(*device.kv, block, to);
    to += device.kv->block_bytes();
  }
}

void Decoder::write_kv(std::int64_t block, const std::byte* from) {
  if (block < 0 || block >= limits_.num_blocks) reject("block id", block, limits_.num_blocks);
  for (Device& device : devices_) {
    device.backend->write_kv(*device.kv, block, from);
    from += device.kv->block_bytes();
  }
}

void Decoder::check_batch(const Batch& b) const {
  constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;
  const std::int64_t tokens = b.num_tokens(), seqs = b.num_seqs();
  const std::int64_t block_size = limits_.block_size, num_blocks = limits_.num_blocks;
  if (tokens > limits_.max_num_tokens) reject("token count", tokens, limits_.max_num_tokens + 1);
  check(static_cast<std::int64_t>(b.positions.size()) == tokens &&
            static_cast<std::int64_t>(b.slot_mapping.size()) == tokens,
        kCode, "batch: token_ids, positions and slot_mapping must have the same length");
  check(static_cast<std::int64_t>(b.query_start_loc.size()) == seqs + 1 &&
            static_cast<std::int64_t>(b.block_tables.size()) == seqs * b.max_blocks,
        kCode, "batch: query_start_loc needs S + 1 entries and block_tables S rows");
  check(b.query_start_loc.front() == 0 && b.query_start_loc.back() == tokens, kCode,
        "batch: query_start_loc must run from 0 to the number of tokens");
  for (const std::int32_t v : b.token_ids)
    if (v < -b.num_drawn || v >= spec_.vocab_size) reject("token id", v, spec_.vocab_size);
  check_all("logit row", b.logit_rows, tokens);
  for (const std::int32_t slot : b.slot_mapping)
    if (slot < -1 || slot >= num_blocks * block_size) reject("slot", slot, num_blocks * block_size);
  for (std::size_t s = 0; s < b.seq_lens.size(); ++s) {
    const std::int32_t begin = b.query_start_loc[s], end = b.query_start_loc[s + 1];
    check(begin <= end && end <= tokens, kCode, "batch: query_start_loc must not decrease");
    const std::int64_t length = b.seq_lens[s];
    if (length < 0 || length > limits_.max_model_len)
      reject("sequence length", length, limits_.max_model_len + 1);
    check(spec_.causal || length == end - begin, kCode,
          "batch: a sequence is in parts; this model's tokens see those after them");
    const auto used = (length + block_size - 1) / block_size;
    check(used <= b.max_blocks, kCode, "batch: a block table is shorter than its sequence");
    check_all("block id",
              b.block_tables.subspan(s * static_cast<std::size_t>(b.max_blocks),
                                     static_cast<std::size_t>(used)),
              num_blocks);
    for (std::int32_t t = begin; t < end; ++t)
      if (b.positions[static_cast<std::size_t>(t)] < 0 ||
          b.positions[static_cast<std::size_t>(t)] >= length)
        reject("position", b.positions[static_cast<std::size_t>(t)], length);
  }
}

void Decoder::forward(const Batch& batch) {
  check_batch(batch);
  const std::int64_t rows = batch.num_logit_rows();
  if (rows > head_capacity_) {
    head_device().activations.head_normed =
        allocate_floats(head_device(), rows * spec_.hidden_size);
    head_capacity_ = rows;
  }
  num_rows_ = rows;
  host_logits_ = nullptr;
  if (batch.num_tokens() == 0) return;

  for (Device& d : devices_) {
    Step s{d.spec, batch, d.activations, *d.kv};
    d.backend->begin_step(s);
  }
  for (std::size_t i = 0; i < sections_.size(); ++i) {
    if (i > 0) move_hidden(sections_[i - 1], sections_[i], batch.num_tokens());
    run(sections_[i], batch);
  }
  end_stage();
}

void Decoder::run(const Section& section, const Batch& batch) {
  Device& device = devices_[static_cast<std::size_t>(section.device)];
  Backend& be = *device.backend;
  Step s{device.spec, batch, device.activations, *device.kv, section.has_head};
  const auto stages = [&] {
    s.layer = section.first_device_layer;
    s.next =
        section.begin < section.end ? &layers_[static_cast<std::size_t>(section.begin)] : nullptr;
    if (section.has_embedding) {
      be.embed(s, *embedding_);
      be.embedded(s, input_);
    } else {
      be.receive(s);
    }
    end_stage();
    for (int i = section.begin; i < section.end; ++i, ++s.layer) {
      const LayerWeights& w = layers_[static_cast<std::size_t>(i)];
      s.next = i + 1 < section.end ? &w + 1 : nullptr;
      be.qkv(s, w);
      end_stage();
      be.attend(s, w);
      end_stage();
      be.attn_output(s, w);
      end_stage();
      be.gate_up(s, w);
      end_stage();
      be.down(s, w);
      end_stage();
    }
    if (section.has_head && batch.num_logit_rows() > 0) be.head(s, *output_norm_);
  };
  be.run(s, std::cref(stages));  // a reference: the lambda itself would be copied to the heap
}

void Decoder::move_hidden(const Section& from, const Section& to, std::int64_t tokens) {
  Device& source = devices_[static_cast<std::size_t>(from.device)];
  Device& target = devices_[static_cast<std::size_t>(to.device)];
  const std::int64_t count = tokens * spec_.hidden_size;
  const float* values = source.backend->to_host(*source.activations.hidden, count);
  target.backend->from_host(*target.activations.incoming,
                            {values, static_cast<std::size_t>(count)});
  end_stage();
}

const float* Decoder::hidden() {
  check(num_rows_ > 0, ErrorCode::kInvalidArgument, "the last step has no rows of hidden states");
  Device& device = head_device();
  return device.backend->to_host(*device.activations.head_normed, num_rows_ * spec_.hidden_size);
}

bool Decoder::draws(const SamplingBatch& sampling) const {
  return sections_.front().device == sections_.back().device &&
         devices_[static_cast<std::size_t>(sections_.back().device)].backend->draws(sampling);
}

std::int64_t Decoder::draw(const SamplingBatch& sampling) {
  make_logits();
  const std::int64_t draw =
      head_device().backend->draw(*head_device().activations.logits, sampling);
  end_stage();
  return draw;
}

std::span<const std::int32_t> Decoder::wait_for(std::int64_t draw) {
  return head_device().backend->wait_for(draw);
}

void Decoder::make_logits() {
  check(
      spec_.causal, ErrorCode::kUnsupported,
      "this model makes embeddings: its tokens see those after them, so there is none to predict");
  check(num_rows_ > 0, ErrorCode::kInvalidArgument, "the last step has no logit rows");
  Device& device = head_device();
  Activations& a = device.activations;
  if (num_rows_ > logits_capacity_) {
    a.logits = allocate_floats(device, num_rows_ * spec_.vocab_size);
    logits_capacity_ = num_rows_;
  }
  device.backend->output(a, num_rows_, output_ ? *output_ : *embedding_);
  device.backend->finish_logits(spec_, a, num_rows_, output_bias_.get());
}

float* Decoder::logits() {
  if (!host_logits_) {
    make_logits();
    Device& device = head_device();
    host_logits_ =
        device.backend->to_host(*device.activations.logits, num_rows_ * spec_.vocab_size);
    end_stage();
  }
  return host_logits_;
}

}  // namespace rocmforge
