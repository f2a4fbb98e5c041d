#include "gpu/gpu_linear.hpp"

#include <algorithm>
#include <iterator>
#include <string>

#include "core/error.hpp"
#include "gpu/limits.hpp"

namespace rocmforge::gpu {
namespace {

// Fewer columns read the weights once for every kLinearColumns of them, which tiles do for 64; the
// GPUs' ratio of arithmetic to bandwidth puts the crossing between 16 and 64.
constexpr std::int64_t kMinTileColumns = 32;

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
  part.tiles = device.kernel("linear_tile_" + format);
  part.embed = device.kernel("embed_" + format);
  return part;
}

// From the file where there is one, not through its mapping.
void load(Device& device, void* to, const Tensor& t) {
  if (!t.mapped()) return device.to_device(to, t.data, t.bytes());
  expect_read(t.file, t.bytes());
  device.to_device(to, t.bytes(), [&](std::byte* piece, std::int64_t at, std::int64_t bytes) {
    read_exactly({t.file.fd, t.file.offset + at}, piece, bytes);
  });
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

bool GpuWeights::all_quantized() const {
  return std::all_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.quantized; });
}

GpuLinear::GpuLinear(Device& device, bool deterministic)
    : device_(device), deterministic_(deterministic) {}

bool GpuLinear::uses_tiles(std::int64_t columns) const {
  return columns >= kMinTileColumns && !deterministic_;
}

bool GpuLinear::reads_quantized(const GpuWeights& w, std::int64_t columns) const {
  return w.any_quantized() && !uses_tiles(columns);
}

bool GpuLinear::reads_floats(const GpuWeights& w, std::int64_t columns) const {
  return !w.all_quantized() || uses_tiles(columns);
}

void GpuLinear::multiply(float* y, const float* x, const void* quantized, const GpuWeights& w,
                         const Columns& columns) {
  for (const GpuWeights::Part& part : w.parts()) {
    if (uses_tiles(columns.typical))
      multiply_tiles(y, x, w, part, columns);
    else
      multiply_part(y, x, quantized, w, part, columns);
  }
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

void GpuLinear::multiply_tiles(float* y, const float* x, const GpuWeights& w,
                               const GpuWeights::Part& part, const Columns& columns) {
  LinearTileArgs args{};
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
  args.rows = static_cast<std::int32_t>(part.rows);
  args.k = static_cast<std::int32_t>(w.cols());
  device_.launch(part.tiles,
                 linear_tile_grid(part.rows, columns.matrix ? columns.max_of_matrix : columns.max,
                                  w.num_matrices()),
                 args);
}

}  // namespace rocmforge::gpu
