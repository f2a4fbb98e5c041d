// Products with a quantized matrix.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "api/buffer.hpp"
#include "core/tensor.hpp"

namespace rocmforge::api {

class RF_API Matrix {
 public:
  // `parts` share their columns and their rows follow one another; formats may differ. Their memory
  // (a mapped file, an array) outlives the matrix. Products have at most `max_rows` rows of input.
  Matrix(const Device& device, std::span<const Tensor> parts, std::int64_t max_rows);
  ~Matrix();
  Matrix(Matrix&&) noexcept;
  Matrix& operator=(Matrix&&) noexcept;

  std::int64_t rows() const;
  std::int64_t cols() const;

  // y [n, rows()] = x [n, cols()] times the transpose of the matrix, in memory of the host.
  void multiply(std::span<float> y, std::span<const float> x);
  // The same for `count` rows in memory of the matrix' device.
  void multiply(Buffer& y, const Buffer& x, std::int64_t count);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace rocmforge::api
