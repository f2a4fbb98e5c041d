// The forward pass, once, for every device and every Llama-like architecture. What varies between
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
  check(2 * s.rope.inv_freq.size() <= static_cast<std::size_t>(s.head_dim), kCode,
        "the rotary dimension is at most head_dim");
  check(s.num_experts >= 0 && s.num_experts_used <= s.num_experts &&
            (s.num_experts == 0 || s.num_experts_used > 0),
        kCode, "num_experts_used must be between 1 and num_experts");
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

}  // namespace

Decoder::Decoder(std::unique_ptr<Backend> backend, DecoderSpec spec, const WeightMap& weights,
                 const DecoderLimits& limits)
    : backend_(std::move(backend)), spec_(std::move(spec)), limits_(limits) {
  check_spec(spec_);
  check(limits_.max_num_tokens > 0 && limits_.max_model_len > 0, ErrorCode::kInvalidArgument,
        "max_num_tokens and max_model_len must be positive");
  Backend& be = *backend_;

  embedding_ = load_embedding(be, spec_, weights);
  output_norm_ = load_output_norm(be, spec_, weights);
  output_ = load_output(be, spec_, weights);
  weight_bytes_ = (output_ ? output_ : embedding_)->bytes();
  for (int i = 0; i < spec_.num_layers; ++i) {
    LayerWeights w = load_layer(be, spec_, weights, i);
    const std::int64_t feed_forward = w.gate_up->bytes() + w.down->bytes();
    weight_bytes_ += w.qkv->bytes() + w.attn_output->bytes();
    weight_bytes_ +=
        w.router ? w.router->bytes() + feed_forward / spec_.num_experts * spec_.num_experts_used
                 : feed_forward;
    layers_.push_back(std::move(w));
  }
  kv_ = be.create_kv_cache(spec_, limits_.kv_type, limits_.num_blocks, limits_.block_size);

  const std::int64_t tokens = limits_.max_num_tokens;
  const std::int64_t slots = tokens * std::max(spec_.num_experts_used, 1);
  Activations& a = activations_;
  a.hidden = allocate_floats(tokens * spec_.hidden_size);
  a.normed = allocate_floats(tokens * spec_.hidden_size);
  a.qkv = allocate_floats(tokens * spec_.qkv_size());
  a.attended = allocate_floats(tokens * spec_.num_heads * spec_.value_dim);
  a.gate_up = allocate_floats(slots * 2 * spec_.ffn_size);
  a.activated = allocate_floats(slots * spec_.ffn_size);
  a.projected = allocate_floats(slots * spec_.hidden_size);
  a.router_logits = allocate_floats(tokens * spec_.num_experts);
}

StoragePtr Decoder::allocate_floats(std::int64_t count) {
  const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(float));
  activation_bytes_ += bytes;
  return backend_->allocate(bytes);
}

void Decoder::check_batch(const Batch& b) const {
  constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;
  const std::int64_t tokens = b.num_tokens(), seqs = b.num_seqs();
  const std::int64_t block_size = kv_->block_size();
  if (tokens > limits_.max_num_tokens) reject("token count", tokens, limits_.max_num_tokens + 1);
  check(static_cast<std::int64_t>(b.positions.size()) == tokens &&
            static_cast<std::int64_t>(b.slot_mapping.size()) == tokens,
        kCode, "batch: token_ids, positions and slot_mapping must have the same length");
  check(static_cast<std::int64_t>(b.query_start_loc.size()) == seqs + 1 &&
            static_cast<std::int64_t>(b.block_tables.size()) == seqs * b.max_blocks,
        kCode, "batch: query_start_loc needs S + 1 entries and block_tables S rows");
  check(b.query_start_loc.front() == 0 && b.query_start_loc.back() == tokens, kCode,
        "batch: query_start_loc must run from 0 to the number of tokens");
  check_all("token id", b.token_ids, spec_.vocab_size);
  check_all("logit row", b.logit_rows, tokens);
  for (const std::int32_t slot : b.slot_mapping)
    if (slot < -1 || slot >= kv_->num_blocks() * block_size)
      reject("slot", slot, kv_->num_blocks() * block_size);
  for (std::size_t s = 0; s < b.seq_lens.size(); ++s) {
    const std::int32_t begin = b.query_start_loc[s], end = b.query_start_loc[s + 1];
    check(begin <= end && end <= tokens, kCode, "batch: query_start_loc must not decrease");
    const std::int64_t length = b.seq_lens[s];
    if (length < 0 || length > limits_.max_model_len)
      reject("sequence length", length, limits_.max_model_len + 1);
    const auto used = (length + block_size - 1) / block_size;
    check(used <= b.max_blocks, kCode, "batch: a block table is shorter than its sequence");
    check_all("block id",
              b.block_tables.subspan(s * static_cast<std::size_t>(b.max_blocks),
                                     static_cast<std::size_t>(used)),
              kv_->num_blocks());
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
    activations_.head_normed = allocate_floats(rows * spec_.hidden_size);
    head_capacity_ = rows;
  }
  num_rows_ = rows;
  host_logits_ = nullptr;
  if (batch.num_tokens() == 0) return;

  Backend& be = *backend_;
  Step s{spec_, batch, activations_, *kv_};
  be.begin_step(s);
  const auto stages = [&] {
    s.layer = 0;
    be.embed(s, *embedding_);
    end_stage();
    for (const LayerWeights& w : layers_) {
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
      ++s.layer;
    }
    if (rows > 0) be.head(s, *output_norm_);
  };
  be.run(s, std::cref(stages));  // a reference: the lambda itself would be copied to the heap
  end_stage();
}

const float* Decoder::hidden() {
  check(num_rows_ > 0, ErrorCode::kInvalidArgument, "the last step has no rows of hidden states");
  return backend_->to_host(*activations_.head_normed, num_rows_ * spec_.hidden_size);
}

float* Decoder::logits() {
  check(num_rows_ > 0, ErrorCode::kInvalidArgument, "the last step has no logit rows");
  if (num_rows_ > logits_capacity_) {
    activations_.logits = allocate_floats(num_rows_ * spec_.vocab_size);
    logits_capacity_ = num_rows_;
  }
  if (!host_logits_) {
    backend_->output(activations_, num_rows_, output_ ? *output_ : *embedding_);
    host_logits_ = backend_->to_host(*activations_.logits, num_rows_ * spec_.vocab_size);
    end_stage();
  }
  return host_logits_;
}

}  // namespace rocmforge
