#include "cpu/cpu_backend.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core/error.hpp"
#include "cpu/cpu_kv_cache.hpp"

namespace rocmforge::cpu {
namespace {

class HostStorage final : public Storage {
 public:
  explicit HostStorage(std::int64_t bytes)
      : Storage(nullptr), buffer_(static_cast<std::size_t>(bytes)) {
    data_ = buffer_.data();
  }

 private:
  Buffer buffer_;
};

const CpuWeights& cpu_weights(const LinearWeights& w) { return static_cast<const CpuWeights&>(w); }

// Shares of `experts` in one row of router scores, up to a factor, and what the factor makes of 1.
float expert_shares(float* share, const float* scores, std::int64_t experts, ExpertGate gate) {
  if (gate == ExpertGate::kSigmoid) {
    for (std::int64_t e = 0; e < experts; ++e) share[e] = 1.0f / (1.0f + std::exp(-scores[e]));
    return 1.0f;
  }
  float highest = -INFINITY, sum = 0.0f;
  for (std::int64_t e = 0; e < experts; ++e)
    if (scores[e] > highest) highest = scores[e];
  for (std::int64_t e = 0; e < experts; ++e) sum += share[e] = std::exp(scores[e] - highest);
  return sum;
}

// Of experts whose score is below the best one's by more than this, relative to the larger of the
// two, training and inference take no notice: twice the jitter of 0.01 in training.
constexpr float kSparseMixerReach = 0.02f;

// The share of chosen[j] by ExpertGate::kSparseMixer; chosen[0..j) are better.
float sparse_mixer_share(const float* scores, std::int64_t experts, const std::int32_t* chosen,
                         std::int64_t j) {
  const float best = scores[chosen[j]];
  float sum = 0.0f;
  for (std::int32_t e = 0; e < experts; ++e) {
    if (std::find(chosen, chosen + j, e) != chosen + j) continue;
    const float size = std::max(std::abs(scores[e]), best);
    if (best - scores[e] <= kSparseMixerReach * size) sum += std::exp(scores[e] - best);
  }
  return 1.0f / sum;
}

}  // namespace

CpuBackend::CpuBackend(const Kernels& kernels, const CpuOptions& options)
    : k_(kernels),
      pool_(options.num_threads),
      tiles_(!options.float_activations && !options.deterministic),
      linear_(k_, pool_, options.float_activations, options.deterministic) {}

StoragePtr CpuBackend::allocate(std::int64_t bytes) { return std::make_unique<HostStorage>(bytes); }

StoragePtr CpuBackend::upload(std::span<const float> values) {
  auto storage = std::make_unique<HostStorage>(static_cast<std::int64_t>(values.size_bytes()));
  std::memcpy(storage->data(), values.data(), values.size_bytes());
  return storage;
}

void CpuBackend::from_host(Storage& storage, std::span<const float> values) {
  std::memcpy(storage.data(), values.data(), values.size_bytes());
}

LinearPtr CpuBackend::prepare(std::span<const Tensor> parts, WeightUse use) {
  return linear_.prepare(parts, use);
}

KvCachePtr CpuBackend::create_kv_cache(const DecoderSpec& spec, KvType type,
                                       std::int64_t num_blocks, std::int64_t block_size) {
  return std::make_unique<CpuKvCache>(spec, type, num_blocks, block_size);
}

void CpuBackend::Angles::compute(const RopeSpec& rope, const Batch& batch, ThreadPool& pool) {
  const std::size_t half = rope.inv_freq.size();
  const auto tokens = static_cast<std::size_t>(batch.num_tokens());
  cos.resize(tokens * half);
  sin.resize(tokens * half);
  pool.parallel_for(batch.num_tokens(), 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::size_t i = 0; i < half; ++i) {
        // In double: a float product is off by a radian at position 2^24.
        const double angle =
            double{rope.inv_freq[i]} * batch.positions[static_cast<std::size_t>(t)];
        const std::size_t at = static_cast<std::size_t>(t) * half + i;
        cos[at] = static_cast<float>(std::cos(angle)) * rope.magnitude;
        sin[at] = static_cast<float>(std::sin(angle)) * rope.magnitude;
      }
    }
  });
}

void CpuBackend::read_kv(const KvCache& kv, std::int64_t block, std::byte* to) {
  static_cast<const CpuKvCache&>(kv).for_pieces(
      block,
      [&to](const std::byte* piece, std::int64_t bytes) { to = std::copy_n(piece, bytes, to); });
}

void CpuBackend::write_kv(KvCache& kv, std::int64_t block, const std::byte* from) {
  static_cast<CpuKvCache&>(kv).for_pieces(block, [&from](std::byte* piece, std::int64_t bytes) {
    std::copy_n(from, bytes, piece);
    from += bytes;
  });
}

void CpuBackend::begin_step(Step& s) {
  main_angles_.compute(s.spec.rope, s.batch, pool_);
  if (!s.spec.local_rope.inv_freq.empty()) local_angles_.compute(s.spec.local_rope, s.batch, pool_);
}

void CpuBackend::embed(Step& s, const LinearWeights& table) {
  const Tensor& w = cpu_weights(table).parts[0].w;
  const auto dequantize = k_.dequantize[static_cast<int>(w.format)];
  const auto* rows = static_cast<const std::byte*>(w.data);
  float* hidden = s.a.hidden->floats();
  pool_.parallel_for(s.batch.num_tokens(), 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t)
      dequantize(hidden + t * w.cols,
                 rows + s.batch.token_ids[static_cast<std::size_t>(t)] * w.row_bytes(), w.cols);
  });
}

void CpuBackend::receive(Step& s) {
  const std::int64_t count = s.batch.num_tokens() * s.spec.hidden_size;
  std::memcpy(s.a.hidden->data(), s.a.incoming->data(),
              static_cast<std::size_t>(count) * sizeof(float));
}

void CpuBackend::rms_norm(float* y, const float* x, const Storage& weight, std::int64_t rows,
                          std::int64_t n, float eps) {
  pool_.parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r)
      k_.rms_norm(y + r * n, x + r * n, weight.floats(), n, eps);
  });
}

void CpuBackend::rms_norm_heads(float* x, std::int64_t rows, std::int64_t row_stride,
                                std::int64_t heads, std::int64_t head_dim, const Storage& weight,
                                float eps) {
  pool_.parallel_for(rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t h = 0; h < heads; ++h) {
        float* head = x + r * row_stride + h * head_dim;
        k_.rms_norm(head, head, weight.floats(), head_dim, eps);
      }
    }
  });
}

PreparedActivation CpuBackend::prepare_activation(const float* x, std::int64_t rows,
                                                  std::int64_t cols, const LinearWeights& user) {
  linear_.prepare_activation(x, rows, cols, cpu_weights(user));
  return {x, rows, cols};
}

PreparedActivation CpuBackend::prepare_normed(float* normed, const float* x, const Storage& weight,
                                              std::int64_t rows, std::int64_t n, float eps,
                                              const LinearWeights& user) {
  const bool packed = linear_.prepare_computed(
      rows, n, cpu_weights(user),
      [&](float* to, std::int64_t row) { k_.rms_norm(to, x + row * n, weight.floats(), n, eps); });
  if (packed) return {nullptr, rows, n};
  return Backend::prepare_normed(normed, x, weight, rows, n, eps, user);
}

PreparedActivation CpuBackend::prepare_activated(float* activated, const float* x,
                                                 std::int64_t rows, std::int64_t n,
                                                 const LinearWeights& user) {
  const bool packed =
      linear_.prepare_computed(rows, n, cpu_weights(user), [&](float* to, std::int64_t row) {
        k_.silu_mul(to, x + row * 2 * n, x + row * 2 * n + n, n);
      });
  if (packed) return {nullptr, rows, n};
  return Backend::prepare_activated(activated, x, rows, n, user);
}

void CpuBackend::linear(float* y, const PreparedActivation& x, const LinearWeights& w) {
  linear_.multiply(y, x, cpu_weights(w));
}

void CpuBackend::linear_experts(float* y, const PreparedActivation& x, const LinearWeights& w,
                                const Routing& routing, bool sorted) {
  for (std::int64_t e = 0; e < w.num_matrices(); ++e) {
    const std::int64_t first = routing.expert_begin[static_cast<std::size_t>(e)];
    const std::int64_t slots = routing.expert_begin[static_cast<std::size_t>(e) + 1] - first;
    if (slots == 0) continue;
    const std::int32_t* tokens = sorted ? nullptr : routing.slot_token.data() + first;
    linear_.multiply_expert(y + first * w.rows(), x, cpu_weights(w), e, tokens, sorted ? first : 0,
                            slots);
  }
}

void CpuBackend::add_bias(float* y, const Storage& bias, std::int64_t rows, std::int64_t n) {
  pool_.parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) k_.add(y + r * n, bias.floats(), n);
  });
}

void CpuBackend::rope(Step& s, float* x, std::int64_t row_stride, std::int64_t heads) {
  const RopeSpec& spec = s.spec.rope_of(s.layer);
  const Angles& angles =
      s.spec.layer(s.layer).rope == RopeUse::kLocal ? local_angles_ : main_angles_;
  const auto half = static_cast<std::int64_t>(spec.inv_freq.size());
  pool_.parallel_for(s.batch.num_tokens(), 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t)
      for (std::int64_t h = 0; h < heads; ++h)
        k_.rope(x + t * row_stride + h * s.spec.head_dim, angles.cos.data() + t * half,
                angles.sin.data() + t * half, 2 * half, spec.interleaved);
  });
}

void CpuBackend::store_kv(Step& s, const float* k, const float* v, std::int64_t row_stride) {
  const auto& kv = static_cast<const CpuKvCache&>(s.kv);
  pool_.parallel_for(s.batch.num_tokens(), 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t slot = s.batch.slot_mapping[static_cast<std::size_t>(t)];
      if (slot < 0) continue;
      for (std::int64_t h = 0; h < s.spec.num_kv_heads; ++h)
        kv.store(k_, s.layer, h, slot, k + t * row_stride + h * s.spec.head_dim,
                 v + t * row_stride + h * s.spec.value_dim);
    }
  });
}

void CpuBackend::attention(Step& s, const float* q, std::int64_t row_stride) {
  const auto& kv = static_cast<const CpuKvCache&>(s.kv);
  const float* sinks = s.sinks ? s.sinks->floats() : nullptr;
  attention_.run(
      {k_, s.spec, kv, s.batch, s.layer, s.a.attended->floats(), q, row_stride, sinks, tiles_},
      pool_);
}

void CpuBackend::silu_mul(float* y, const float* x, std::int64_t rows, std::int64_t n) {
  pool_.parallel_for(rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r)
      k_.silu_mul(y + r * n, x + r * 2 * n, x + r * 2 * n + n, n);
  });
}

void CpuBackend::add(float* y, const float* x, std::int64_t n) {
  pool_.parallel_for(n, 16384, [&](std::int64_t begin, std::int64_t end, int) {
    k_.add(y + begin, x + begin, end - begin);
  });
}

void CpuBackend::gather_rows(float* y, const float* x, std::span<const std::int32_t> rows,
                             std::int64_t n) {
  for (const std::int32_t row : rows) {
    std::memcpy(y, x + row * n, static_cast<std::size_t>(n) * sizeof(float));
    y += n;
  }
}

void CpuBackend::route(Routing& routing, const float* logits, std::int64_t rows,
                       std::int64_t experts, std::int64_t used) {
  const auto slots = static_cast<std::size_t>(rows * used);
  routing.weight.resize(slots);
  routing.token_slot.resize(slots);
  routing.slot_token.resize(slots);
  routing.expert_begin.assign(static_cast<std::size_t>(experts) + 1, 0);

  std::vector<std::int32_t> chosen(slots);  // [rows, used] experts, best first
  std::vector<std::int32_t> order(static_cast<std::size_t>(experts));
  std::vector<float> share(static_cast<std::size_t>(experts)), merit(share);
  for (std::int64_t t = 0; t < rows; ++t) {
    const float whole = expert_shares(share.data(), logits + t * experts, experts, routing.gate);
    for (std::int64_t e = 0; e < experts; ++e) {
      const auto at = static_cast<std::size_t>(e);
      order[at] = static_cast<std::int32_t>(e);
      // Scores are in the order of their shares, and finer: softmax may make two shares equal.
      const float value = routing.choice ? share[at] / whole + routing.choice->floats()[e]
                                         : logits[t * experts + e];
      // A NaN counts as the worst, so that the comparison stays a strict weak order.
      merit[at] = std::isnan(value) ? -INFINITY : value;
    }
    const auto better = [&merit](std::int32_t a, std::int32_t b) {
      const float x = merit[static_cast<std::size_t>(a)], y = merit[static_cast<std::size_t>(b)];
      return x != y ? x > y : a < b;
    };
    std::partial_sort(order.begin(), order.begin() + used, order.end(), better);
    const bool mixer = routing.gate == ExpertGate::kSparseMixer;
    float sum = 0.0f;
    float* weight = routing.weight.data() + t * used;
    for (std::int64_t j = 0; j < used; ++j) {
      const std::int32_t e = order[static_cast<std::size_t>(j)];
      chosen[static_cast<std::size_t>(t * used + j)] = e;
      weight[j] = mixer ? sparse_mixer_share(logits + t * experts, experts, order.data(), j)
                        : share[static_cast<std::size_t>(e)];
      sum += weight[j];
      ++routing.expert_begin[static_cast<std::size_t>(e) + 1];
    }
    if (mixer)
      sum = 1.0f;
    else if (!routing.sums_to_one)
      sum = whole;
    for (std::int64_t j = 0; j < used; ++j) weight[j] *= routing.scale / sum;
  }
  for (std::int64_t e = 0; e < experts; ++e)
    routing.expert_begin[static_cast<std::size_t>(e) + 1] +=
        routing.expert_begin[static_cast<std::size_t>(e)];
  std::vector<std::int32_t> next(routing.expert_begin.begin(), routing.expert_begin.end() - 1);
  for (std::size_t i = 0; i < slots; ++i) {
    const std::int32_t slot = next[static_cast<std::size_t>(chosen[i])]++;
    routing.token_slot[i] = slot;
    routing.slot_token[static_cast<std::size_t>(slot)] =
        static_cast<std::int32_t>(static_cast<std::int64_t>(i) / used);
  }
}

void CpuBackend::combine(float* y, const float* x, const Routing& routing, std::int64_t rows,
                         std::int64_t n) {
  const std::int64_t used = static_cast<std::int64_t>(routing.token_slot.size()) / rows;
  pool_.parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t j = 0; j < used; ++j) {
        const auto at = static_cast<std::size_t>(t * used + j);
        const float weight = routing.weight[at];
        const float* from = x + routing.token_slot[at] * n;
        for (std::int64_t i = 0; i < n; ++i) y[t * n + i] += weight * from[i];
      }
    }
  });
}

void CpuBackend::layer_norm(float* y, const float* x, const Storage& weights, std::int64_t rows,
                            std::int64_t n, float eps) {
  const float* weight = weights.floats();
  pool_.parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r)
      k_.layer_norm(y + r * n, x + r * n, weight, weight + n, n, eps);
  });
}

void CpuBackend::layer_norm_heads(float* x, std::int64_t rows, std::int64_t row_stride,
                                  std::int64_t heads, std::int64_t head_dim, const Storage& weights,
                                  float eps) {
  const float* weight = weights.floats();
  pool_.parallel_for(rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t h = 0; h < heads; ++h) {
        float* head = x + r * row_stride + h * head_dim;
        const float* w = weight + h * head_dim;
        k_.layer_norm(head, head, w, w + heads * head_dim, head_dim, eps);
      }
    }
  });
}

void CpuBackend::copy_heads(const Heads& to, const Heads& from, std::int64_t rows,
                            std::int64_t heads, std::int64_t n) {
  pool_.parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r)
      for (std::int64_t h = 0; h < heads; ++h)
        std::copy_n(from.x + r * from.row_stride + h * from.head_stride, n,
                    to.x + r * to.row_stride + h * to.head_stride);
  });
}

// The rows of a head are those of an expert that nobody chose: they follow one another.
void CpuBackend::linear_heads(const Heads& y, const Heads& x, std::int64_t rows,
                              const LinearWeights& w) {
  const std::int64_t heads = w.num_matrices(), k = w.cols(), n = w.rows();
  head_inputs_.resize(static_cast<std::size_t>(heads * rows * k));
  head_outputs_.resize(static_cast<std::size_t>(heads * rows * n));
  copy_heads({head_inputs_.data(), k, rows * k}, x, rows, heads, k);
  const PreparedActivation in = prepare_activation(head_inputs_.data(), heads * rows, k, w);
  for (std::int64_t h = 0; h < heads; ++h)
    linear_.multiply_expert(head_outputs_.data() + h * rows * n, in, cpu_weights(w), h, nullptr,
                            h * rows, rows);
  copy_heads(y, {head_outputs_.data(), n, rows * n}, rows, heads, n);
}

void CpuBackend::activate(Activation activation, float* y, const float* x, std::int64_t rows,
                          std::int64_t n) {
  const ActivateFn f = k_.activate[static_cast<int>(activation)];
  const std::int64_t width = is_gated(activation) ? 2 * n : n;
  pool_.parallel_for(rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) f(y + r * n, x + r * width, n);
  });
}

void CpuBackend::scale(float* x, float factor, std::int64_t rows, std::int64_t n) {
  pool_.parallel_for(rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) k_.scale(x + r * n, factor, n);
  });
}

void CpuBackend::soft_cap(float* x, float cap, std::int64_t rows, std::int64_t n) {
  pool_.parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) k_.soft_cap(x + r * n, cap, n);
  });
}

void CpuBackend::gate_rows(float* x, const float* gate, std::int64_t rows, std::int64_t n) {
  pool_.parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r)
      k_.scale(x + r * n, 1.0f / (1.0f + std::exp(-gate[r])), n);
  });
}

void CpuBackend::add_positions(Step& s, float* x, const Storage& table, std::int64_t n) {
  pool_.parallel_for(s.batch.num_tokens(), 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t)
      k_.add(x + t * n, table.floats() + s.batch.positions[static_cast<std::size_t>(t)] * n, n);
  });
}

void CpuBackend::add_expert_bias(float* y, const Storage& bias, const Routing& routing,
                                 std::int64_t n) {
  const auto experts = static_cast<std::int64_t>(routing.expert_begin.size()) - 1;
  pool_.parallel_for(experts, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t e = begin; e < end; ++e) {
      const std::int64_t last = routing.expert_begin[static_cast<std::size_t>(e) + 1];
      for (std::int64_t i = routing.expert_begin[static_cast<std::size_t>(e)]; i < last; ++i)
        k_.add(y + i * n, bias.floats() + e * n, n);
    }
  });
}

}  // namespace rocmforge::cpu
