// A small model of random float weights, for tests that need a decoder and no file.
#pragma once

#include <cmath>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/cpu_backend.hpp"
#include "model/decoder.hpp"

namespace rocmforge::test {

struct RandomModel {
  DecoderSpec spec;
  WeightMap weights;
  std::deque<std::vector<float>> memory;

  explicit RandomModel(int num_experts = 0, int head_dim = 8) {
    spec.num_layers = 2;
    spec.hidden_size = 32;
    spec.num_heads = 4;
    spec.num_kv_heads = 2;
    spec.head_dim = spec.value_dim = head_dim;
    spec.ffn_size = 48;
    spec.vocab_size = 67;
    spec.num_experts = num_experts;
    spec.num_experts_used = num_experts ? 2 : 0;
    spec.norm_eps = 1e-5f;
    spec.attention_scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    spec.rope.inv_freq = {1.0f, 0.1f, 0.01f, 0.001f};

    const std::int64_t hidden = spec.hidden_size, ffn = spec.ffn_size;
    const std::int64_t experts = num_experts ? num_experts : 1;
    const std::string suffix = num_experts ? "_exps.weight" : ".weight";
    add("token_embd.weight", 1, spec.vocab_size, hidden);
    add("output_norm.weight", 1, 1, hidden);
    for (int i = 0; i < spec.num_layers; ++i) {
      const std::string p = "blk." + std::to_string(i) + ".";
      add(p + "attn_norm.weight", 1, 1, hidden);
      add(p + "attn_q.weight", 1, spec.q_size(), hidden);
      add(p + "attn_k.weight", 1, spec.k_size(), hidden);
      add(p + "attn_v.weight", 1, spec.v_size(), hidden);
      add(p + "attn_q.bias", 1, 1, spec.q_size());
      add(p + "attn_output.weight", 1, hidden, spec.q_size());
      add(p + "ffn_norm.weight", 1, 1, hidden);
      if (num_experts) add(p + "ffn_gate_inp.weight", 1, experts, hidden);
      add(p + "ffn_gate" + suffix, experts, ffn, hidden);
      add(p + "ffn_up" + suffix, experts, ffn, hidden);
      add(p + "ffn_down" + suffix, experts, hidden, ffn);
    }
  }

  std::unique_ptr<Decoder> decoder(int threads, std::int64_t block_size = 4,
                                   KvType kv_type = KvType::kF16, int num_devices = 1,
                                   const DecoderPlacement& placement = {}) const {
    const DecoderLimits limits{kv_type, 64, block_size, 128, 128};
    std::vector<std::unique_ptr<Backend>> backends;
    for (int i = 0; i < num_devices; ++i)
      backends.push_back(std::make_unique<cpu::CpuBackend>(
          cpu::kernels(), cpu::CpuOptions{.num_threads = threads, .deterministic = true}));
    return std::make_unique<Decoder>(std::move(backends), placement, spec, weights, limits);
  }

  void add(const std::string& name, std::int64_t matrices, std::int64_t rows, std::int64_t cols) {
    std::normal_distribution<float> normal(0.0f, 1.0f / std::sqrt(static_cast<float>(cols)));
    memory.emplace_back(static_cast<std::size_t>(matrices * rows * cols));
    for (float& v : memory.back()) v = normal(random_);
    weights[name] = Tensor{memory.back().data(), quant::Format::kF32, matrices, rows, cols, {}};
  }

 private:
  std::mt19937 random_{7};
};

// The arrays of a batch of one sequence whose blocks are 1, 2, 3, ...
struct OneSequence {
  std::vector<std::int32_t> token_ids, positions, slots, starts, lengths, table, rows;

  OneSequence(const std::vector<std::int32_t>& tokens, int begin, int end, int block_size) {
    for (int i = begin; i < end; ++i) {
      token_ids.push_back(tokens[static_cast<std::size_t>(i)]);
      positions.push_back(i);
      slots.push_back(block_size + i);  // block 0 stays unused
    }
    starts = {0, end - begin};
    lengths = {end};
    for (int b = 0; b * block_size < end; ++b) table.push_back(b + 1);
    rows = {end - begin - 1};
  }

  Batch batch() const {
    return {token_ids,
            positions,
            slots,
            starts,
            lengths,
            table,
            static_cast<std::int64_t>(table.size()),
            rows};
  }
};

}  // namespace rocmforge::test
