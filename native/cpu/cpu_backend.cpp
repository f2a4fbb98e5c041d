#include "cpu/cpu_backend.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core/error.hpp"
#include "cpu/cpu_kv_cache.hpp"
#include "quant/activations.hpp"

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

// Row-major GGUF blocks where the file (or the caller) has them.
class MappedLinear final : public LinearWeights {
 public:
  struct Part {
    Tensor w;
    std::int64_t row_begin;  // of this part within the group
  };

  explicit MappedLinear(std::span<const Tensor> parts) {
    check(!parts.empty(), ErrorCode::kInternal, "a linear group needs a part");
    cols_ = parts[0].cols;
    num_matrices_ = parts[0].num_matrices;
    for (const Tensor& w : parts) {
      check(w.cols == cols_ && w.num_matrices == num_matrices_, ErrorCode::kModelFile,
            "matrices of one group must have the same row length and expert count");
      this->parts.push_back({w, rows_});
      rows_ += w.rows;
      bytes_ += w.bytes();
    }
  }

  std::vector<Part> parts;
};

const MappedLinear& mapped(const LinearWeights& w) { return static_cast<const MappedLinear&>(w); }

// Rows a thread takes at once: small enough that a slow thread holds up little, large enough
// that taking them costs nothing.
std::int64_t row_grain(std::int64_t rows, int threads) {
  const std::int64_t even = rows / (std::int64_t{8} * threads);
  return std::clamp<std::int64_t>(even / 8 * 8, 8, 128);
}

// The same for products through tiles, which expand weights 32 rows at a time and keep the sums of
// 256 rows in the second-level cache.
std::int64_t tile_grain(std::int64_t rows, int threads) {
  const std::int64_t even = rows / (std::int64_t{2} * threads);
  return std::clamp<std::int64_t>(even / 32 * 32, 32, 256);
}

}  // namespace

CpuBackend::CpuBackend(const Kernels& kernels, const CpuOptions& options)
    : k_(kernels),
      float_activations_(options.float_activations),
      deterministic_(options.deterministic),
      pool_(options.num_threads) {
  for (int i = 0; i < options.num_threads; ++i)  // memory is taken by the first product
    tile_scratch_.emplace_back(static_cast<std::size_t>(k_.gemm.scratch_bytes));
}

StoragePtr CpuBackend::allocate(std::int64_t bytes) { return std::make_unique<HostStorage>(bytes); }

StoragePtr CpuBackend::upload(std::span<const float> values) {
  auto storage = std::make_unique<HostStorage>(static_cast<std::int64_t>(values.size_bytes()));
  std::memcpy(storage->data(), values.data(), values.size_bytes());
  return storage;
}

LinearPtr CpuBackend::prepare(std::span<const Tensor> parts) {
  return std::make_unique<MappedLinear>(parts);
}

KvCachePtr CpuBackend::create_kv_cache(const DecoderSpec& spec, KvType type,
                                       std::int64_t num_blocks, std::int64_t block_size) {
  return std::make_unique<CpuKvCache>(spec, type, num_blocks, block_size);
}

void* CpuBackend::reserve(Buffer& buffer, std::int64_t bytes) {
  if (buffer.bytes() < static_cast<std::size_t>(bytes))
    buffer = Buffer(static_cast<std::size_t>(bytes));
  return buffer.data();
}

void CpuBackend::begin_step(Step& s) {
  const Batch& b = s.batch;
  const RopeSpec& rope = s.spec.rope;
  const std::size_t half = rope.inv_freq.size();
  const auto tokens = static_cast<std::size_t>(b.num_tokens());

  cos_.resize(tokens * half);
  sin_.resize(tokens * half);
  pool_.parallel_for(b.num_tokens(), 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::size_t i = 0; i < half; ++i) {
        // In double: a float product is off by a radian at position 2^24.
        const double angle = double{rope.inv_freq[i]} * b.positions[static_cast<std::size_t>(t)];
        const std::size_t at = static_cast<std::size_t>(t) * half + i;
        cos_[at] = static_cast<float>(std::cos(angle)) * rope.magnitude;
        sin_[at] = static_cast<float>(std::sin(angle)) * rope.magnitude;
      }
    }
  });
}

void CpuBackend::embed(Step& s, const LinearWeights& table) {
  const Tensor& w = mapped(table).parts[0].w;
  const auto dequantize = k_.dequantize[static_cast<int>(w.format)];
  const auto* rows = static_cast<const std::byte*>(w.data);
  float* hidden = s.a.hidden->floats();
  pool_.parallel_for(s.batch.num_tokens(), 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t)
      dequantize(hidden + t * w.cols,
                 rows + s.batch.token_ids[static_cast<std::size_t>(t)] * w.row_bytes(), w.cols);
  });
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

bool CpuBackend::wants_tiles(std::int64_t cols) const {
  return k_.gemm.pack && cols >= k_.gemm.min_cols && !float_activations_ && !deterministic_;
}

void CpuBackend::pack(const float* x, const std::int32_t* source, std::int64_t k,
                      std::int64_t cols) {
  void* y = reserve(packed_, k_.gemm.packed_bytes(k, cols));
  const std::int64_t tiles = (cols + kGemmTileColumns - 1) / kGemmTileColumns;
  pool_.parallel_for(tiles, 1, [&](std::int64_t begin, std::int64_t end, int) {
    k_.gemm.pack({y, x, k, source, k, cols, begin, end});
  });
}

void CpuBackend::multiply_tiles(float* y, std::int64_t y_stride, const Tensor& w,
                                const void* matrix, std::int64_t cols) {
  const auto gemm = k_.gemm.gemm[static_cast<int>(w.format)];
  pool_.parallel_for(w.rows, tile_grain(w.rows, pool_.num_threads()),
                     [&](std::int64_t begin, std::int64_t end, int thread) {
                       gemm({y, y_stride, matrix, w.row_bytes(), packed_.data(), w.cols, begin, end,
                             cols, tile_scratch_[static_cast<std::size_t>(thread)].data()});
                     });
}

PreparedActivation CpuBackend::prepare_activation(const float* x, std::int64_t rows,
                                                  std::int64_t cols, const LinearWeights& user) {
  if (user.num_matrices() == 1 && wants_tiles(rows)) {
    pack(x, nullptr, cols, rows);
    return {x, rows, cols};
  }
  bool wanted[quant::kNumActivationTypes] = {};
  for (const MappedLinear::Part& p : mapped(user).parts)
    wanted[static_cast<int>(quant::info(p.w.format).activation)] = true;

  for (int type = 0; type < quant::kNumActivationTypes; ++type) {
    const auto activation = static_cast<quant::ActivationType>(type);
    if (!wanted[type] || float_activations_ || activation == quant::ActivationType::kFloat)
      continue;
    const std::int64_t stride = quant::activation_row_bytes(activation, cols);
    auto* y = static_cast<std::byte*>(reserve(quantized_[type], rows * stride));
    quantized_stride_[type] = stride;
    pool_.parallel_for(rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t r = begin; r < end; ++r)
        k_.quantize[type](y + r * stride, x + r * cols, cols);
    });
  }
  return {x, rows, cols};
}

CpuBackend::Activation CpuBackend::activation_for(const PreparedActivation& x,
                                                  quant::Format format) const {
  const auto type = static_cast<std::size_t>(quant::info(format).activation);
  if (float_activations_ || quant::info(format).activation == quant::ActivationType::kFloat)
    return {x.x, x.cols * static_cast<std::int64_t>(sizeof(float))};
  return {quantized_[type].data(), quantized_stride_[type]};
}

void CpuBackend::linear(float* y, const PreparedActivation& x, const LinearWeights& w) {
  const MappedLinear& group = mapped(w);
  if (wants_tiles(x.rows)) {
    for (const MappedLinear::Part& p : group.parts)
      multiply_tiles(y + p.row_begin, group.rows(), p.w, p.w.data, x.rows);
    return;
  }
  const LinearFn* table = float_activations_ ? k_.linear_float : k_.linear_quantized;
  pool_.parallel_for(group.rows(), row_grain(group.rows(), pool_.num_threads()),
                     [&](std::int64_t begin, std::int64_t end, int) {
                       for (const MappedLinear::Part& p : group.parts) {
                         const std::int64_t first = std::max(begin - p.row_begin, std::int64_t{0});
                         const std::int64_t last = std::min(end - p.row_begin, p.w.rows);
                         if (first >= last) continue;
                         const Activation a = activation_for(x, p.w.format);
                         table[static_cast<int>(p.w.format)](
                             y + p.row_begin, group.rows(), p.w.data, p.w.row_bytes(), a.data,
                             a.stride, p.w.cols, first, last, x.rows);
                       }
                     });
}

void CpuBackend::linear_experts(float* y, const PreparedActivation& x, const LinearWeights& w,
                                const Routing& routing, bool sorted) {
  const MappedLinear& group = mapped(w);
  const LinearFn* table = float_activations_ ? k_.linear_float : k_.linear_quantized;
  for (std::int64_t e = 0; e < w.num_matrices(); ++e) {
    const std::int64_t first = routing.expert_begin[static_cast<std::size_t>(e)];
    const std::int64_t slots = routing.expert_begin[static_cast<std::size_t>(e) + 1] - first;
    if (slots == 0) continue;
    const std::int32_t* tokens = routing.slot_token.data() + first;
    float* out = y + first * group.rows();
    if (wants_tiles(slots)) {
      if (sorted)
        pack(x.x + first * x.cols, nullptr, x.cols, slots);
      else
        pack(x.x, tokens, x.cols, slots);
    }
    for (const MappedLinear::Part& p : group.parts) {
      const auto* matrix = static_cast<const std::byte*>(p.w.data) + e * p.w.matrix_bytes();
      if (wants_tiles(slots)) {
        multiply_tiles(out + p.row_begin, group.rows(), p.w, matrix, slots);
        continue;
      }
      const Activation a = activation_for(x, p.w.format);
      const auto* rows = static_cast<const std::byte*>(a.data) + first * a.stride;
      if (!sorted) rows = gather(a, tokens, slots);
      pool_.parallel_for(p.w.rows, row_grain(p.w.rows, pool_.num_threads()),
                         [&](std::int64_t begin, std::int64_t end, int) {
                           table[static_cast<int>(p.w.format)](
                               out + p.row_begin, group.rows(), matrix, p.w.row_bytes(), rows,
                               a.stride, p.w.cols, begin, end, slots);
                         });
    }
  }
}

const std::byte* CpuBackend::gather(const Activation& a, const std::int32_t* rows,
                                    std::int64_t count) {
  auto* to = static_cast<std::byte*>(reserve(gathered_, count * a.stride));
  for (std::int64_t i = 0; i < count; ++i)
    std::memcpy(to + i * a.stride, static_cast<const std::byte*>(a.data) + rows[i] * a.stride,
                static_cast<std::size_t>(a.stride));
  return to;
}

void CpuBackend::add_bias(float* y, const Storage& bias, std::int64_t rows, std::int64_t n) {
  pool_.parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) k_.add(y + r * n, bias.floats(), n);
  });
}

void CpuBackend::rope(Step& s, float* x, std::int64_t row_stride, std::int64_t heads) {
  const auto half = static_cast<std::int64_t>(s.spec.rope.inv_freq.size());
  pool_.parallel_for(s.batch.num_tokens(), 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t)
      for (std::int64_t h = 0; h < heads; ++h)
        k_.rope(x + t * row_stride + h * s.spec.head_dim, cos_.data() + t * half,
                sin_.data() + t * half, 2 * half, s.spec.rope.interleaved);
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
  attention_.run({k_, s.spec, kv, s.batch, s.layer, s.a.attended->floats(), q, row_stride}, pool_);
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
  for (std::int64_t t = 0; t < rows; ++t) {
    const float* row = logits + t * experts;
    for (std::int64_t e = 0; e < experts; ++e)
      order[static_cast<std::size_t>(e)] = static_cast<std::int32_t>(e);
    // A NaN score counts as the worst, so that the comparison stays a strict weak order.
    const auto better = [row](std::int32_t a, std::int32_t b) {
      const float x = std::isnan(row[a]) ? -INFINITY : row[a];
      const float y = std::isnan(row[b]) ? -INFINITY : row[b];
      return x != y ? x > y : a < b;
    };
    std::partial_sort(order.begin(), order.begin() + used, order.end(), better);
    // Renormalising the softmax over the chosen ones cancels its denominator.
    float sum = 0.0f;
    float* weight = routing.weight.data() + t * used;
    for (std::int64_t j = 0; j < used; ++j) {
      const std::int32_t e = order[static_cast<std::size_t>(j)];
      chosen[static_cast<std::size_t>(t * used + j)] = e;
      weight[j] = std::exp(row[e] - row[order[0]]);
      sum += weight[j];
      ++routing.expert_begin[static_cast<std::size_t>(e) + 1];
    }
    for (std::int64_t j = 0; j < used; ++j) weight[j] /= sum;
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

}  // namespace rocmforge::cpu
