#include "cpu/cpu_linear.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "core/error.hpp"
#include "quant/activations.hpp"

namespace rocmforge::cpu {
namespace {

// Panels that a thread takes at once when few are left: a tile of the kernels.
constexpr std::int64_t kPanelGrain = 4;

// Products in tiles expand two panels at a time and keep the sums of 16 in the second-level cache.
std::int64_t tile_grain(std::int64_t panels, int threads) {
  return std::clamp<std::int64_t>(panels / (std::int64_t{2} * threads) / 2 * 2, 2, 16);
}

// Multiplications that a piece of rows may take: at the scalar level, with 0.3e9 to 1e9 a second,
// pieces are what tells others that a step gets on (ThreadPool::progress).
constexpr std::int64_t kMostRowWork = std::int64_t{1} << 27;

// `work` is that of a row.
std::int64_t row_grain(std::int64_t rows, std::int64_t work, int threads) {
  const std::int64_t most = std::clamp<std::int64_t>(kMostRowWork / work / 8 * 8, 8, 128);
  return std::clamp<std::int64_t>(rows / (std::int64_t{8} * threads) / 8 * 8, 8, most);
}

}  // namespace

CpuWeights::CpuWeights(std::span<const Tensor> tensors, WeightUse use)
    : exact(use == WeightUse::kExact) {
  check(!tensors.empty(), ErrorCode::kInternal, "a linear group needs a part");
  cols_ = tensors[0].cols;
  num_matrices_ = tensors[0].num_matrices;
  for (const Tensor& w : tensors) {
    check(w.cols == cols_ && w.num_matrices == num_matrices_, ErrorCode::kModelFile,
          "matrices of one group must have the same row length and expert count");
    const std::int64_t panels = cpu::num_panels(w.rows);
    parts.push_back({w, rows_, nullptr, 0, panels, num_panels});
    num_panels += panels;
    rows_ += w.rows;
    bytes_ += w.bytes();
  }
}

CpuLinear::CpuLinear(const Kernels& kernels, ThreadPool& pool, bool float_activations,
                     bool deterministic)
    : k_(kernels),
      pool_(pool),
      float_activations_(float_activations),
      deterministic_(deterministic) {
  const std::int64_t bytes = std::max(k_.gemm.scratch_bytes, kPanelScratchBytes);
  for (int i = 0; i < pool.num_threads(); ++i)  // memory is taken by the first product
    scratch_.emplace_back(static_cast<std::size_t>(bytes));
  computed_.resize(scratch_.size());
}

LinearPtr CpuLinear::prepare(std::span<const Tensor> tensors, WeightUse use) {
  auto weights = std::make_unique<CpuWeights>(tensors, use);
  if (use == WeightUse::kTable || path(*weights, 1) == Path::kRows) return weights;
  weights->memory = panels_;
  for (CpuWeights::Part& part : weights->parts) {
    const auto format = static_cast<int>(part.w.format);
    part.panel_bytes = k_.panels.bytes[format](part.w.cols);
    const std::int64_t all = part.w.num_matrices * part.num_panels;
    part.panels = static_cast<std::byte*>(
        panels_->allocate(static_cast<std::size_t>(all * part.panel_bytes)));
    pool_.parallel_for(all, 4, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t matrix = i / part.num_panels;
        const std::int64_t row = i % part.num_panels * kPanelRows;
        k_.panels.pack[format](part.panels + i * part.panel_bytes,
                               static_cast<const std::byte*>(part.w.data) +
                                   matrix * part.w.matrix_bytes() + row * part.w.row_bytes(),
                               part.w.row_bytes(), part.w.cols,
                               std::min(kPanelRows, part.w.rows - row));
      }
    });
    if (part.w.mapped() || part.w.temporary) release_pages(part.w);
  }
  return weights;
}

void* CpuLinear::reserve(Buffer& buffer, std::int64_t bytes) {
  if (buffer.bytes() < static_cast<std::size_t>(bytes))
    buffer = Buffer(static_cast<std::size_t>(bytes));
  return buffer.data();
}

CpuLinear::Path CpuLinear::path(const CpuWeights& w, std::int64_t cols) const {
  if (w.exact || float_activations_ || !k_.panels.multiply[0]) return Path::kRows;
  const auto many = [&](const CpuWeights::Part& p) {
    return cols >= k_.gemm.min_cols[static_cast<int>(quant::info(p.w.format).activation)];
  };
  if (k_.gemm.pack && !deterministic_ && std::all_of(w.parts.begin(), w.parts.end(), many))
    return Path::kTiles;
  return Path::kPanels;
}

std::int64_t CpuLinear::pack_unit(Path way, std::int64_t cols, const CpuWeights& user) const {
  if (way == Path::kTiles) return kGemmTileColumns;
  std::int64_t unit = 1;  // whole groups of every type
  for (const CpuWeights::Part& p : user.parts)
    unit = std::lcm(unit, k_.panels.group(quant::info(p.w.format).activation, cols));
  return unit;
}

void CpuLinear::reserve_columns(Path way, std::int64_t k, std::int64_t cols,
                                const CpuWeights& user) {
  if (way == Path::kTiles) {
    reserve(tiles_, k_.gemm.packed_bytes(k, cols));
    return;
  }
  for (const CpuWeights::Part& p : user.parts) {
    const quant::ActivationType type = quant::info(p.w.format).activation;
    reserve(columns_[static_cast<int>(type)], panel_columns_bytes(type, k, cols));
  }
}

void CpuLinear::pack_units(Path way, const float* x, const std::int32_t* source,
                           std::int64_t x_first, std::int64_t k, std::int64_t cols,
                           const CpuWeights& user, std::int64_t begin, std::int64_t end) {
  if (way == Path::kTiles) {
    k_.gemm.pack({tiles_.data(), x, k, source, x_first, k, cols, begin, end});
    return;
  }
  bool wanted[quant::kNumActivationTypes] = {};
  for (const CpuWeights::Part& p : user.parts)
    wanted[static_cast<int>(quant::info(p.w.format).activation)] = true;
  const std::int64_t unit = pack_unit(way, cols, user);
  for (int type = 0; type < quant::kNumActivationTypes; ++type) {
    if (!wanted[type]) continue;
    const std::int64_t group = k_.panels.group(static_cast<quant::ActivationType>(type), cols);
    const std::int64_t groups = (cols + group - 1) / group;
    k_.panels.pack_columns[type]({columns_[type].data(), x, k, source, x_first, k, cols, group,
                                  begin * unit / group, std::min(end * unit / group, groups)});
  }
}

void CpuLinear::pack_columns(Path way, const float* x, const std::int32_t* source, std::int64_t k,
                             std::int64_t cols, const CpuWeights& user) {
  reserve_columns(way, k, cols, user);
  const std::int64_t unit = pack_unit(way, cols, user);
  pool_.parallel_for((cols + unit - 1) / unit, 1, [&](std::int64_t begin, std::int64_t end, int) {
    pack_units(way, x, source, 0, k, cols, user, begin, end);
  });
}

void CpuLinear::quantize_rows(const float* x, std::int64_t k, std::int64_t rows,
                              const CpuWeights& user) {
  const bool wanted = std::any_of(user.parts.begin(), user.parts.end(), [](const auto& p) {
    return quant::info(p.w.format).activation == quant::ActivationType::kQ8x32;
  });
  if (!wanted || float_activations_) return;
  const std::int64_t blocks = k / quant::kActivationBlock;
  auto* y = static_cast<quant::BlockQ8x32*>(
      reserve(quantized_, rows * blocks * static_cast<std::int64_t>(sizeof(quant::BlockQ8x32))));
  pool_.parallel_for(rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) k_.quantize(y + r * blocks, 1, x + r * k, k);
  });
}

void CpuLinear::prepare_activation(const float* x, std::int64_t rows, std::int64_t cols,
                                   const CpuWeights& user) {
  const Path way = path(user, rows);
  // Experts' columns are known when they are multiplied.
  if (user.num_matrices() > 1 && way != Path::kRows) return;
  if (way == Path::kRows) return quantize_rows(x, cols, rows, user);
  pack_columns(way, x, nullptr, cols, rows, user);
}

void CpuLinear::multiply(float* y, const PreparedActivation& x, const CpuWeights& w) {
  switch (path(w, x.rows)) {
    case Path::kTiles:
      return multiply_tiles(y, w, 0, x.rows);
    case Path::kPanels:
      return multiply_panels(y, w, 0, x.rows);
    case Path::kRows:
      return multiply_rows(y, x.x, w, 0, nullptr, 0, x.rows);
  }
}

void CpuLinear::multiply_expert(float* y, const PreparedActivation& x, const CpuWeights& w,
                                std::int64_t index, const std::int32_t* source, std::int64_t first,
                                std::int64_t count) {
  const float* rows = source ? x.x : x.x + first * x.cols;
  const Path way = path(w, count);
  if (way == Path::kRows) return multiply_rows(y, x.x, w, index, source, first, count);
  pack_columns(way, rows, source, x.cols, count, w);
  if (way == Path::kTiles)
    multiply_tiles(y, w, index, count);
  else
    multiply_panels(y, w, index, count);
}

template <class F>
void CpuLinear::for_panels(const CpuWeights& w, std::int64_t grain, ThreadPool::Pieces pieces,
                           F f) {
  pool_.parallel_for(
      w.num_panels, grain,
      [&](std::int64_t first, std::int64_t last, int thread) {
        for (const CpuWeights::Part& p : w.parts) {
          const std::int64_t from = std::max(first - p.panel_begin, std::int64_t{0});
          const std::int64_t to = std::min(last - p.panel_begin, p.num_panels);
          if (from < to) f(p, from, to, thread);
        }
      },
      pieces);
}

void CpuLinear::multiply_tiles(float* y, const CpuWeights& w, std::int64_t matrix,
                               std::int64_t cols) {
  for_panels(w, tile_grain(w.num_panels, pool_.num_threads()), ThreadPool::Pieces::kEqual,
             [&](const CpuWeights::Part& p, std::int64_t first, std::int64_t last, int thread) {
               k_.gemm.gemm[static_cast<int>(p.w.format)](
                   {y + p.row_begin, w.rows(), p.matrix(matrix), tiles_.data(), p.w.cols, p.w.rows,
                    first, last, cols, scratch_[static_cast<std::size_t>(thread)].data()});
             });
}

void CpuLinear::multiply_panels(float* y, const CpuWeights& w, std::int64_t matrix,
                                std::int64_t cols) {
  // Many columns at some levels make a piece long enough to look like a hang.
  const bool few = cols <= kFewColumns;
  for_panels(w, few ? kPanelGrain : tile_grain(w.num_panels, pool_.num_threads()),
             few ? ThreadPool::Pieces::kShrinking : ThreadPool::Pieces::kEqual,
             [&](const CpuWeights::Part& p, std::int64_t first, std::int64_t last, int thread) {
               const quant::ActivationType type = quant::info(p.w.format).activation;
               k_.panels.product(static_cast<int>(p.w.format),
                                 cols)({y + p.row_begin, w.rows(), p.matrix(matrix),
                                        columns_[static_cast<int>(type)].data(), p.w.cols, p.w.rows,
                                        first, last, cols, k_.panels.group(type, cols),
                                        scratch_[static_cast<std::size_t>(thread)].data()});
             });
}

void CpuLinear::multiply_rows(float* y, const float* x, const CpuWeights& w, std::int64_t matrix,
                              const std::int32_t* source, std::int64_t first, std::int64_t cols) {
  const bool quantizes = !float_activations_ && !w.exact;
  for (const CpuWeights::Part& p : w.parts) {
    const bool blocks =
        quantizes && quant::info(p.w.format).activation == quant::ActivationType::kQ8x32;
    const std::int64_t stride = blocks ? p.w.cols / quant::kActivationBlock *
                                             static_cast<std::int64_t>(sizeof(quant::BlockQ8x32))
                                       : p.w.cols * static_cast<std::int64_t>(sizeof(float));
    const auto* all = blocks ? static_cast<const std::byte*>(quantized_.data())
                             : reinterpret_cast<const std::byte*>(x);
    const std::byte* columns = all + first * stride;
    if (source) {
      auto* to = static_cast<std::byte*>(reserve(gathered_, cols * stride));
      for (std::int64_t i = 0; i < cols; ++i)
        std::memcpy(to + i * stride, all + source[i] * stride, static_cast<std::size_t>(stride));
      columns = to;
    }
    const auto* rows = static_cast<const std::byte*>(p.w.data) + matrix * p.w.matrix_bytes();
    const LinearFn linear =
        (blocks ? k_.linear_quantized : k_.linear_float)[static_cast<int>(p.w.format)];
    const std::int64_t work = std::max<std::int64_t>(p.w.cols * cols, 1);
    pool_.parallel_for(p.w.rows, row_grain(p.w.rows, work, pool_.num_threads()),
                       [&](std::int64_t begin, std::int64_t end, int) {
                         linear(y + p.row_begin, w.rows(), rows, p.w.row_bytes(), columns, stride,
                                p.w.cols, begin, end, cols);
                       });
  }
}

}  // namespace rocmforge::cpu
