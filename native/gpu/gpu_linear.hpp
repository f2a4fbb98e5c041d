// Weight matrices on the device, as the raw blocks of the file, and their products.
//
// Three families: 8-bit activations and integer dot products, for few columns; float activations,
// for few columns, where the format is a float one or the caller wants them; tiles with float
// activations, for many columns. A column gets the same bits however many share a launch within a
// family; where results may not depend on the number of columns, tiles are not used.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "gpu/arena.hpp"
#include "gpu/device.hpp"
#include "include/args.hpp"
#include "ops/backend.hpp"

namespace rocmforge::gpu {

class GpuWeights final : public LinearWeights {
 public:
  // Neighbouring tensors of one format are one part.
  struct Part {
    quant::Format format;
    const std::byte* blocks;
    std::int64_t row_begin, rows, row_bytes, matrix_bytes;
    bool quantized;  // whether few columns are multiplied as 8-bit activations
    std::array<Function, std::size(kLinearColumns)> few_columns;
    Function tiles, embed;
  };

  GpuWeights(Device& device, Arena& arena, std::span<const Tensor> tensors, bool quantized);
  ~GpuWeights() override;

  const std::vector<Part>& parts() const { return parts_; }
  bool any_quantized() const;
  bool all_quantized() const;

 private:
  Arena& arena_;
  std::vector<Part> parts_;
  std::vector<void*> memory_;
};

// Columns of a product: input rows, and for experts which matrix and row each column has.
struct Columns {
  std::int64_t max = 0;                 // on the device there may be fewer
  std::int64_t typical = 0;             // of a matrix: chooses the kernels
  const std::int32_t* count = nullptr;  // device memory, as all pointers here
  // Experts; null for a single matrix. In order of the matrix.
  const std::int32_t* matrix = nullptr;        // [columns]
  const std::int32_t* matrix_begin = nullptr;  // [matrices + 1]
  std::int64_t max_of_matrix = 0;
  const std::int32_t* row = nullptr;  // [columns] of x; null: its own number
};

class GpuLinear {
 public:
  GpuLinear(Device& device, bool deterministic);

  // Whether products of so many typical columns read quantized activations, or floats, or both.
  bool reads_quantized(const GpuWeights& w, std::int64_t columns) const;
  bool reads_floats(const GpuWeights& w, std::int64_t columns) const;

  // y [columns, w.rows()]. x and `quantized` as reads_floats() and reads_quantized() say.
  void multiply(float* y, const float* x, const void* quantized, const GpuWeights& w,
                const Columns& columns);

 private:
  bool uses_tiles(std::int64_t columns) const;
  void multiply_part(float* y, const float* x, const void* quantized, const GpuWeights& w,
                     const GpuWeights::Part& part, const Columns& columns);
  void multiply_tiles(float* y, const float* x, const GpuWeights& w, const GpuWeights::Part& part,
                      const Columns& columns);

  Device& device_;
  bool deterministic_;
};

}  // namespace rocmforge::gpu
