// Weight matrices of the CPU and their products: which layout, which kernels, which threads.
//
// Matrices are repacked into panels once, at load, in memory of huge pages, and the pages of the
// file they came from are given back: the model is in memory once. Three ways lead to a product:
// tiles, for many columns, in bfloat16, where the CPU has matrix tiles and results may differ by
// them; panels, with 8-bit activations (or floats, for float weights); the file's own rows, for
// float activations, exact matrices and levels without panels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/buffer.hpp"
#include "core/slices.hpp"
#include "core/thread_pool.hpp"
#include "cpu/kernels.hpp"
#include "ops/backend.hpp"

namespace rocmforge::cpu {

class CpuWeights final : public LinearWeights {
 public:
  struct Part {
    Tensor w;  // the file's rows
    std::int64_t row_begin;
    std::byte* panels;         // of all matrices; null if products use the rows
    std::int64_t panel_bytes;  // of one
    std::int64_t num_panels;   // of a matrix
    std::int64_t panel_begin;  // of this part within the group
    const std::byte* matrix(std::int64_t i) const { return panels + i * num_panels * panel_bytes; }
  };

  CpuWeights(std::span<const Tensor> parts, WeightUse use);

  std::vector<Part> parts;
  std::int64_t num_panels = 0;
  bool exact;
  std::shared_ptr<Slices> memory;  // of the panels
};

class CpuLinear {
 public:
  CpuLinear(const Kernels& kernels, ThreadPool& pool, bool float_activations, bool deterministic);

  LinearPtr prepare(std::span<const Tensor> parts, WeightUse use);

  // Packs or quantizes rows of x for products with `user`; valid until the next call.
  void prepare_activation(const float* x, std::int64_t rows, std::int64_t cols,
                          const CpuWeights& user);
  // The same of rows that fill(to, row) computes, a few at a time where they are packed, so that
  // they never leave the cache. False, and nothing done, if products with `user` need them in
  // memory.
  template <class Fill>
  bool prepare_computed(std::int64_t rows, std::int64_t cols, const CpuWeights& user, Fill fill);
  // y = x W^T; x as prepared.
  void multiply(float* y, const PreparedActivation& x, const CpuWeights& w);
  // The rows of one expert: y = rows source[0..count) of x, or without a source rows first ..
  // first + count - 1, times matrix `index`.
  void multiply_expert(float* y, const PreparedActivation& x, const CpuWeights& w,
                       std::int64_t index, const std::int32_t* source, std::int64_t first,
                       std::int64_t count);

 private:
  enum class Path { kTiles, kPanels, kRows };
  Path path(const CpuWeights& w, std::int64_t cols) const;
  // Columns that are packed together: a tile, or groups.
  std::int64_t pack_unit(Path way, std::int64_t cols, const CpuWeights& user) const;
  void reserve_columns(Path way, std::int64_t k, std::int64_t cols, const CpuWeights& user);
  // Those of units begin .. end - 1: rows source[i] of x, or x itself from column x_first on.
  void pack_units(Path way, const float* x, const std::int32_t* source, std::int64_t x_first,
                  std::int64_t k, std::int64_t cols, const CpuWeights& user, std::int64_t begin,
                  std::int64_t end);
  void pack_columns(Path way, const float* x, const std::int32_t* source, std::int64_t k,
                    std::int64_t cols, const CpuWeights& user);
  void quantize_rows(const float* x, std::int64_t k, std::int64_t rows, const CpuWeights& user);
  void multiply_tiles(float* y, const CpuWeights& w, std::int64_t matrix, std::int64_t cols);
  void multiply_panels(float* y, const CpuWeights& w, std::int64_t matrix, std::int64_t cols);
  // Columns are rows `source`, or from `first` on.
  void multiply_rows(float* y, const float* x, const CpuWeights& w, std::int64_t matrix,
                     const std::int32_t* source, std::int64_t first, std::int64_t cols);
  // Calls f(part, first, last, thread) for ranges of the parts' panels, on all threads.
  template <class F>
  void for_panels(const CpuWeights& w, std::int64_t grain, ThreadPool::Pieces pieces, F f);
  // Grows, never shrinks: a step of a size met before allocates nothing.
  static void* reserve(Buffer& buffer, std::int64_t bytes);

  const Kernels& k_;
  ThreadPool& pool_;
  bool float_activations_, deterministic_;
  std::shared_ptr<Slices> panels_ = std::make_shared<Slices>();
  Buffer columns_[quant::kNumActivationTypes];  // for panels
  Buffer quantized_;                            // rows of x as activation blocks
  Buffer gathered_;                             // one expert's rows
  Buffer tiles_;                                // columns for tiles
  std::vector<Buffer> computed_;                // rows on their way into columns, per thread
  std::vector<Buffer> scratch_;                 // per thread
};

template <class Fill>
bool CpuLinear::prepare_computed(std::int64_t rows, std::int64_t cols, const CpuWeights& user,
                                 Fill fill) {
  const Path way = path(user, rows);
  if (way == Path::kRows || user.num_matrices() > 1) return false;
  reserve_columns(way, cols, rows, user);
  const std::int64_t unit = pack_unit(way, rows, user);
  const auto bytes = unit * cols * static_cast<std::int64_t>(sizeof(float));
  for (Buffer& b : computed_) reserve(b, bytes);
  pool_.parallel_for((rows + unit - 1) / unit, 1,
                     [&](std::int64_t begin, std::int64_t end, int thread) {
                       float* x = computed_[static_cast<std::size_t>(thread)].floats();
                       for (std::int64_t i = begin; i < end; ++i) {
                         const std::int64_t last = std::min((i + 1) * unit, rows);
                         for (std::int64_t row = i * unit; row < last; ++row)
                           fill(x + (row - i * unit) * cols, row);
                         pack_units(way, x, nullptr, i * unit, cols, rows, user, i, i + 1);
                       }
                     });
  return true;
}

}  // namespace rocmforge::cpu
