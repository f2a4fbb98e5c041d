#include "gpu/gpu_linear.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>

#include "core/error.hpp"
#include "gpu/limits.hpp"

namespace rocmforge::gpu {
namespace {

// Fewer columns read the weights once for every kLinearColumns of them, which tiles do for 64; the
// GPUs' ratio of arithmetic to bandwidth puts the crossing between 16 and 64.
constexpr std::int64_t kMinTileColumns = 32;
// Matrix cores take 16 columns in the time of one; below this many the dot products are faster.
constexpr std::int64_t kMinMmaColumns = 5;
// More of one matrix share the decoding of weights in a tile.
constexpr std::int64_t kMaxDirectColumns = 64;
// Decoding all weights to memory and reading them from there is paid back by this many columns.
constexpr std::int64_t kMinGemmColumns = 256;
constexpr std::int64_t kBf16 = 2;
constexpr std::int64_t kMaxWeightScratch = std::int64_t{256} << 20;

GpuWeights::Part part_of(Device& device, const Tensor& t, bool quantized) {
  GpuWeights::Part part{};
  const std::string format(quant::info(t.format).name);
  part.format = t.format;
  part.row_bytes = t.row_bytes();
  part.matrix_bytes = t.matrix_bytes();
  part.quantized = quantized && quant::info(t.format).activation == quant::ActivationType::kQ8x32;
  const std::string few = (part.quantized ? "linear_q8_" : "linear_float_") + format + "_c";
  for (std::size_t i = 0; i < std::size(kLinearColumns); ++i)
    part.few_columns[i] = device.kernel(few + std::to_string(kLinearColumns[i]));
  if (part.quantized) {
    for (std::size_t i = 0; i < std::size(kMmaColumns); ++i)
      part.mma[i] =
          device.find_kernel("linear_mma_" + format + "_c" + std::to_string(kMmaColumns[i]));
    for (std::size_t i = 0; part.mma[0] && i < std::size(kDirectColumns); ++i)
      part.direct[i] =
          device.kernel("linear_direct_" + format + "_c" + std::to_string(kDirectColumns[i]));
    if (part.mma[0]) part.dequantize = device.kernel("dequantize_" + format);
  }
  part.tiles = device.kernel("linear_tile_" + format);
  part.embed = device.kernel("embed_" + format);
  return part;
}

// From the file where there is one, not through its mapping.
void load(Device& device, void* to, const Tensor& t) {
  if (!t.mapped()) {
    device.to_device(to, t.data, t.bytes());
    if (t.temporary) release_pages(t);
    return;
  }
  expect_read(t.file, t.bytes());
  device.to_device(to, t.bytes(), [&](std::byte* piece, std::int64_t at, std::int64_t bytes) {
    read_exactly({t.file.fd, t.file.offset + at}, piece, bytes);
  });
}

// Of a product whose columns lie sorted by matrix; Args: LinearTileArgs or LinearMmaArgs.
template <class Args, class X>
Args many_columns(float* y, const X* x, const GpuWeights& w, const GpuWeights::Part& part,
                  const Columns& columns) {
  Args args{};
  args.y = y + part.row_begin;
  args.w = part.blocks;
  args.x = x;
  args.num_columns = columns.count;
  args.matrix_begin = columns.matrix_begin;
  args.column_row = columns.row;
  args.matrix_bytes = part.matrix_bytes;
  args.row_bytes = part.row_bytes;
  args.x_stride = w.cols();
  args.y_stride = w.rows();
  args.rows = narrow(part.rows);
  args.k = narrow(w.cols());
  return args;
}

std::int64_t most_of_matrix(const Columns& columns) {
  return columns.matrix ? columns.max_of_matrix : columns.max;
}

}  // namespace

GpuWeights::GpuWeights(Device& device, Arena& arena, std::span<const Tensor> tensors,
                       bool quantized)
    : arena_(arena) {
  cols_ = tensors.front().cols;
  num_matrices_ = tensors.front().num_matrices;
  if (const std::string problem = columns_problem(cols_); !problem.empty())
    throw Error(ErrorCode::kUnsupported, problem);
  for (auto t = tensors.begin(); t != tensors.end();) {
    // Matrices of one format that follow one another are one launch.
    auto end = std::next(t);
    if (num_matrices_ == 1)
      while (end != tensors.end() && end->format == t->format) ++end;
    std::int64_t bytes = 0, rows = 0;
    for (auto i = t; i != end; ++i) {
      bytes += i->bytes();
      rows += i->rows;
    }
    memory_.push_back(arena_.allocate(bytes));
    auto* at = static_cast<std::byte*>(memory_.back());
    parts_.push_back(part_of(device, *t, quantized));
    parts_.back().blocks = at;
    parts_.back().row_begin = rows_;
    parts_.back().rows = rows;
    for (; t != end; ++t) {
      load(device, at, *t);
      at += t->bytes();
    }
    rows_ += rows;
    bytes_ += bytes;
  }
}

GpuWeights::~GpuWeights() {
  for (void* p : memory_) arena_.free(p);
}

bool GpuWeights::any_quantized() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.quantized; });
}

GpuLinear::GpuLinear(Device& device, bool deterministic)
    : device_(device),
      deterministic_(deterministic),
      to_bf16_(device.kernel("to_bf16")),
      to_tiles_(device.find_kernel("to_tiles")),
      gemm_(device) {}

void GpuLinear::announce(const GpuWeights& w, std::int64_t max_columns) {
  if (deterministic_ || w.num_matrices() > 1) return;
  for (const GpuWeights::Part& part : w.parts()) uses_mma_ |= part.mma[0] != nullptr;
  if (max_columns < kMinGemmColumns) return;
  for (const GpuWeights::Part& part : w.parts())
    if (part.dequantize) decoded_.push_back({part.rows, w.cols(), w.rows()});
}

void GpuLinear::prepare(Arena& arena, std::int64_t rows, std::int64_t most_cols,
                        std::int64_t max_columns) {
  const auto reserve = [&](std::int64_t bytes) {
    return static_cast<std::uint16_t*>(arena.allocate(bytes));
  };
  // Columns in whole blocks of linear_direct.
  constexpr std::int64_t kWhole = std::end(kDirectColumns)[-1];
  activations_ = reserve((rows + kWhole - 1) / kWhole * kWhole * most_cols * kBf16);
  for (const Decoded& d : decoded_)
    weight_bytes_ = std::max(weight_bytes_, std::min(d.rows * d.k * kBf16, kMaxWeightScratch));
  if (weight_bytes_ == 0) return;
  weights_ = reserve(weight_bytes_);
  for (const Decoded& d : decoded_) {
    const std::int64_t step = rows_at_once(d.k);
    if (step == 0) continue;
    if (d.rows >= step) gemm_.announce(step, d.k, d.y_stride);
    if (d.rows % step) gemm_.announce(d.rows % step, d.k, d.y_stride);
  }
  gemm_.prepare(arena, max_columns);
}

GpuLinear::Family GpuLinear::family(const GpuWeights& w, const GpuWeights::Part& part,
                                    std::int64_t columns) const {
  if (deterministic_) return Family::kFewColumns;
  if (!part.mma[0]) return columns < kMinTileColumns ? Family::kFewColumns : Family::kTiles;
  if (columns < kMinMmaColumns) return Family::kFewColumns;
  if (columns <= kMaxDirectColumns && w.num_matrices() == 1) return Family::kDirect;
  const bool decodes_once =
      columns >= kMinGemmColumns && w.num_matrices() == 1 && rows_at_once(w.cols()) > 0;
  return decodes_once ? Family::kGemm : Family::kMma;
}

// Rows that the memory for weights holds.
std::int64_t GpuLinear::rows_at_once(std::int64_t k) const {
  constexpr std::int64_t kWhole = std::end(kGemmRows)[-1];
  return weight_bytes_ / (k * kBf16) / kWhole * kWhole;
}

std::int64_t GpuLinear::min_mma_columns() const {
  return uses_mma_ ? kMinMmaColumns : std::numeric_limits<std::int64_t>::max();
}

bool GpuLinear::reads_quantized(const GpuWeights& w, std::int64_t columns) const {
  return std::any_of(w.parts().begin(), w.parts().end(), [&](const GpuWeights::Part& part) {
    return part.quantized && family(w, part, columns) == Family::kFewColumns;
  });
}

bool GpuLinear::reads_floats(const GpuWeights& w, std::int64_t columns) const {
  return !std::all_of(w.parts().begin(), w.parts().end(), [&](const GpuWeights::Part& part) {
    return part.quantized && family(w, part, columns) == Family::kFewColumns;
  });
}

GpuLinear::Rounded GpuLinear::reads_rounded(const GpuWeights& w, std::int64_t columns) const {
  const auto form = [&](const GpuWeights::Part& part) {
    const Family f = family(w, part, columns);
    if (f == Family::kDirect) return Rounded::kTiles;
    return f == Family::kMma || f == Family::kGemm ? Rounded::kRows : Rounded::kNot;
  };
  const Rounded first = form(w.parts()[0]);
  const bool alike = std::all_of(w.parts().begin(), w.parts().end(),
                                 [&](const GpuWeights::Part& part) { return form(part) == first; });
  return alike && w.num_matrices() == 1 ? first : Rounded::kNot;
}

void GpuLinear::multiply(float* y, const float* x, const void* quantized, const GpuWeights& w,
                         const Columns& columns) {
  const Rounded there = x == rounded_x_ ? reads_rounded(w, columns.typical) : Rounded::kNot;
  bool rounded = there == Rounded::kRows, tiled = there == Rounded::kTiles;
  for (const GpuWeights::Part& part : w.parts()) {
    switch (family(w, part, columns.typical)) {
      case Family::kFewColumns:
        multiply_part(y, x, quantized, w, part, columns);
        break;
      case Family::kDirect:
        if (!tiled) tile_activations(x, w, columns);
        tiled = true;
        multiply_direct(y, w, part, columns);
        break;
      case Family::kMma:
        if (!rounded) round_activations(x, w, columns);
        rounded = true;
        multiply_mma(y, w, part, columns);
        break;
      case Family::kGemm:
        if (!rounded) round_activations(x, w, columns);
        rounded = true;
        multiply_gemm(y, w, part, columns);
        break;
      case Family::kTiles:
        multiply_tiles(y, x, w, part, columns);
        break;
    }
  }
}

void GpuLinear::round_activations(const float* x, const GpuWeights& w, const Columns& columns) {
  rounded_x_ = nullptr;
  const ToBf16Args args{activations_, x, columns.row_count, static_cast<std::int32_t>(w.cols())};
  device_.launch(to_bf16_, row_grid(columns.max_rows, w.cols()), args);
}

void GpuLinear::tile_activations(const float* x, const GpuWeights& w, const Columns& columns) {
  rounded_x_ = nullptr;
  const ToTilesArgs args{activations_, x, columns.row_count, narrow(w.cols())};
  device_.launch(to_tiles_, to_tiles_grid(columns.max_rows, w.cols()), args);
}

void GpuLinear::multiply_part(float* y, const float* x, const void* quantized, const GpuWeights& w,
                              const GpuWeights::Part& part, const Columns& columns) {
  std::size_t shared = 0;  // kLinearColumns of it read the weights together
  while (!columns.matrix && shared + 1 < std::size(kLinearColumns) &&
         columns.max >= kLinearColumns[shared + 1])
    ++shared;
  LinearArgs args{};
  args.y = y + part.row_begin;
  args.w = part.blocks;
  args.num_columns = columns.count;
  args.column_matrix = columns.matrix;
  args.column_row = columns.row;
  args.matrix_bytes = part.matrix_bytes;
  args.row_bytes = part.row_bytes;
  args.y_stride = w.rows();
  args.rows = static_cast<std::int32_t>(part.rows);
  args.k = static_cast<std::int32_t>(w.cols());
  if (part.quantized) {
    args.x = quantized;
    args.x_stride = q8_row_bytes(w.cols());
  } else {
    args.x = x;
    args.x_stride = w.cols() * static_cast<std::int64_t>(sizeof(float));
  }
  device_.launch(
      part.few_columns[shared],
      linear_grid(part.rows, columns.max, kLinearColumns[shared], device_.properties().wave_size),
      args);
}

void GpuLinear::multiply_direct(float* y, const GpuWeights& w, const GpuWeights::Part& part,
                                const Columns& columns) {
  const std::size_t size = columns.max > kDirectColumns[0] ? 1 : 0;
  const LinearDirectArgs args{y + part.row_begin, part.blocks, activations_,      columns.count,
                              part.row_bytes,     w.rows(),    narrow(part.rows), narrow(w.cols())};
  device_.launch(part.direct[size],
                 linear_direct_grid(part.rows, columns.max, kDirectColumns[size],
                                    device_.properties().wave_size),
                 args);
}

void GpuLinear::multiply_mma(float* y, const GpuWeights& w, const GpuWeights::Part& part,
                             const Columns& columns) {
  const std::size_t size = mma_size(part.rows, columns.typical);
  device_.launch(
      part.mma[size],
      linear_mma_grid(part.rows, most_of_matrix(columns), kMmaColumns[size], w.num_matrices()),
      many_columns<LinearMmaArgs>(y, activations_, w, part, columns));
}

void GpuLinear::multiply_gemm(float* y, const GpuWeights& w, const GpuWeights::Part& part,
                              const Columns& columns) {
  const std::int64_t step = rows_at_once(w.cols());
  for (std::int64_t row = 0; row < part.rows; row += step) {
    const std::int64_t rows = std::min(step, part.rows - row);
    const DequantizeArgs decode{weights_, part.blocks + row * part.row_bytes, part.row_bytes,
                                static_cast<std::int32_t>(rows),
                                static_cast<std::int32_t>(w.cols())};
    device_.launch(part.dequantize, dequantize_grid(rows, w.cols()), decode);
    GemmArgs args{};
    args.y = y + part.row_begin + row;
    args.w = weights_;
    args.x = activations_;
    args.num_columns = columns.count;
    args.x_stride = w.cols();
    args.y_stride = w.rows();
    args.rows = static_cast<std::int32_t>(rows);
    args.k = static_cast<std::int32_t>(w.cols());
    gemm_.multiply(args, columns.max);
  }
}

// The smallest blocks that hold the columns, or smaller ones that keep half of the GPU busy.
std::size_t GpuLinear::mma_size(std::int64_t rows, std::int64_t columns) const {
  std::size_t size = 0;
  while (size + 1 < std::size(kMmaColumns) && columns > kMmaColumns[size]) ++size;
  const auto blocks = [&] {
    const Grid grid = linear_mma_grid(rows, columns, kMmaColumns[size], 1);
    return grid.x * grid.y;
  };
  while (size > 0 && 2 * blocks() < device_.properties().num_multiprocessors) --size;
  return size;
}

void GpuLinear::multiply_tiles(float* y, const float* x, const GpuWeights& w,
                               const GpuWeights::Part& part, const Columns& columns) {
  device_.launch(part.tiles, linear_tile_grid(part.rows, most_of_matrix(columns), w.num_matrices()),
                 many_columns<LinearTileArgs>(y, x, w, part, columns));
}

}  // namespace rocmforge::gpu
