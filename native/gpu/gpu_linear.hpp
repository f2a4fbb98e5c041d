// Weight matrices on the device, as the raw blocks of the file, and their products.
//
// Families: 8-bit activations and integer dot products, for few columns; float activations,
// for few columns, where the format is a float one or the caller wants them; matrix cores with bf16
// activations, for more columns, where the GPU has them and the caller does not want float ones, in
// three ways: weights decoded straight into operands for up to 64 columns of one matrix, in each
// tile, or once for hundreds of columns; else tiles with float activations. A column gets the same
// bits however many share a launch within the first two; where results may not depend on the number
// of columns, the others are not used.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "gpu/arena.hpp"
#include "gpu/device.hpp"
#include "gpu/gpu_gemm.hpp"
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
    std::array<Function, std::size(kMmaColumns)> mma;        // null: not with this GPU or format
    std::array<Function, std::size(kDirectColumns)> direct;  // null where mma is
    Function dequantize;                                     // null where mma is
    Function tiles, embed;
  };

  GpuWeights(Device& device, Arena& arena, std::span<const Tensor> tensors, bool quantized);
  ~GpuWeights() override;

  const std::vector<Part>& parts() const { return parts_; }
  bool any_quantized() const;

 private:
  Arena& arena_;
  std::vector<Part> parts_;
  std::vector<void*> memory_;
};

// All that a GpuBackend prepares are.
inline const GpuWeights& gpu_weights(const LinearWeights& w) {
  return static_cast<const GpuWeights&>(w);
}
// Sizes as kernels take them.
inline std::int32_t narrow(std::int64_t n) { return static_cast<std::int32_t>(n); }

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
  std::int64_t max_rows = 0;          // of x
  const std::int32_t* row_count = nullptr;
};

class GpuLinear {
 public:
  GpuLinear(Device& device, bool deterministic);

  // Tells of weights before prepare(), and of the most columns of products with them.
  void announce(const GpuWeights& w, std::int64_t max_columns);
  // Takes memory for so many rows of activations of at most so many columns as bf16, and for
  // weights as bf16 if any that were announced are multiplied so, by max_columns.
  void prepare(Arena& arena, std::int64_t rows, std::int64_t most_cols, std::int64_t max_columns);

  // Who multiplies hundreds of columns, and why.
  const std::string& gemm_report() const { return gemm_.report(); }

  // Columns from which on products take matrix cores; more than any if none do.
  std::int64_t min_mma_columns() const;
  // Whether products of so many typical columns read quantized activations, or floats, or both.
  bool reads_quantized(const GpuWeights& w, std::int64_t columns) const;
  bool reads_floats(const GpuWeights& w, std::int64_t columns) const;

  // How products with w, alone or with others, read activations rounded to bf16, if all of w does
  // so in one way: kRows as ToBf16Args, kTiles as ToTilesArgs.
  enum class Rounded { kNot, kRows, kTiles };
  Rounded reads_rounded(const GpuWeights& w, std::int64_t columns) const;
  // Where they go. Whoever puts some there says what x they are of, which multiply() then does not
  // read again; null: of none.
  std::uint16_t* rounded() { return activations_; }
  void set_rounded(const float* x) { rounded_x_ = x; }

  // y [columns, w.rows()]. x and `quantized` as reads_floats() and reads_quantized() say.
  void multiply(float* y, const float* x, const void* quantized, const GpuWeights& w,
                const Columns& columns);

 private:
  enum class Family { kFewColumns, kDirect, kMma, kGemm, kTiles };
  Family family(const GpuWeights& w, const GpuWeights::Part& part, std::int64_t columns) const;
  std::int64_t rows_at_once(std::int64_t k) const;
  std::size_t mma_size(std::int64_t rows, std::int64_t columns) const;
  void round_activations(const float* x, const GpuWeights& w, const Columns& columns);
  void tile_activations(const float* x, const GpuWeights& w, const Columns& columns);
  void multiply_part(float* y, const float* x, const void* quantized, const GpuWeights& w,
                     const GpuWeights::Part& part, const Columns& columns);
  void multiply_direct(float* y, const GpuWeights& w, const GpuWeights::Part& part,
                       const Columns& columns);
  void multiply_mma(float* y, const GpuWeights& w, const GpuWeights::Part& part,
                    const Columns& columns);
  void multiply_gemm(float* y, const GpuWeights& w, const GpuWeights::Part& part,
                     const Columns& columns);
  void multiply_tiles(float* y, const float* x, const GpuWeights& w, const GpuWeights::Part& part,
                      const Columns& columns);

  Device& device_;
  bool deterministic_;
  bool uses_mma_ = false;        // for any weights announced
  Function to_bf16_, to_tiles_;  // to_tiles_: null where no kernels read them
  GpuGemm gemm_;
  struct Decoded {
    std::int64_t rows, k, y_stride;
  };
  std::vector<Decoded> decoded_;  // what may be decoded to memory
  const float* rounded_x_ = nullptr;
  std::uint16_t *activations_ = nullptr, *weights_ = nullptr;
  std::int64_t weight_bytes_ = 0;
};

}  // namespace rocmforge::gpu
