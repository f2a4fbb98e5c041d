// A non-owning view of a weight: where its blocks are, their format and the shape. Who made the
// view keeps the memory alive (a mapped file, a Python array, a Buffer).
#pragma once

#include <cstdint>

#include "core/file_range.hpp"
#include "quant/formats.hpp"

namespace rocmforge {

struct Tensor {
  const void* data = nullptr;
  quant::Format format = quant::Format::kF32;
  std::int64_t num_matrices = 1;  // experts; 1 for everything else
  std::int64_t rows = 1;          // output features; 1 for a vector
  std::int64_t cols = 0;          // input features, whole blocks of `format`
  FileRange file;                 // where `data` is mapped from, if it is
  bool temporary = false;         // private memory that nobody reads once it has been prepared

  bool mapped() const { return file.fd >= 0; }  // its pages may be given back and come again

  std::int64_t row_bytes() const { return quant::row_bytes(format, cols); }
  std::int64_t matrix_bytes() const { return rows * row_bytes(); }
  std::int64_t bytes() const { return num_matrices * matrix_bytes(); }
};

// Gives back the pages that lie wholly within a tensor: of a mapped file they are read again if
// somebody looks, of private memory they are zero.
void release_pages(const Tensor& t);

}  // namespace rocmforge
