// What the SIMD linear kernels share: weights decoded into panels, and the loop over tiles.
//
// A chunk of 256 weights of a few rows is decoded into panels (a few KB, in L1) and used for all
// columns of the call, so a format is one unpack function and the arithmetic is written once per
// activation type. Columns go in groups of kMaxCols whose running sums stay in L1 across chunks,
// row by row of the file's own layout.
//
// Every tile shape does the same operations on a (row, column) pair in the same order, lane by
// lane; that is the invariant of kernels.hpp.
#pragma once

#include <cstdint>

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kChunk = 256;  // weights; a whole number of blocks of every format
constexpr std::int64_t kMaxCols = 64;

// 256 weights of a row in a format with blocks of 32: weight i is d[i / 32] * q[i] + m[i / 32].
struct alignas(64) Panel32 {
  std::int8_t q[256];
  float d[8];
  float m[8];  // formats with a min only
};

// 256 weights of a row of a K-quant. With s = scales[i / 16], weight i is one of
//   d * s * q[i] - dmin * mins[i / 16]           formats with a min: q is unsigned
//   d * s * (q[i] - kOffset)                     q is unsigned, mins = -kOffset * s
//   d * s * q[i]                                 q is signed
struct alignas(64) Panel256 {
  std::uint8_t q[256];
  std::int16_t scales[16][8];  // eight copies: one for each pair of products that pmaddwd adds
  std::int16_t mins[16];
  float d;
  float dmin;
};

// Kernel supplies
//   kRows, kCols               the largest tile
//   Panel                      one row's chunk
//   Sum                        the vector of partial sums of one (row, column)
//   unpack(panel, row, i, n)   decodes weights [i, i + n) of the row that starts at `row`
//   tile<R, C>(sums, panels, x, x_stride, i, n)   adds the products of that chunk for R rows and
//                              C columns; sums of a row lie kMaxCols apart
//   total(sum)                 the sum of the lanes
template <class Kernel>
void linear_tiles(float* y, std::int64_t y_stride, const void* w, std::int64_t row_bytes,
                  const void* x, std::int64_t x_stride, std::int64_t k, std::int64_t row_begin,
                  std::int64_t row_end, std::int64_t num_cols) {
  constexpr int kRows = Kernel::kRows, kCols = Kernel::kCols;
  typename Kernel::Panel panels[kRows];
  typename Kernel::Sum sums[kRows * kMaxCols];
  for (std::int64_t c0 = 0; c0 < num_cols; c0 += kMaxCols) {
    const std::int64_t cols = num_cols - c0 < kMaxCols ? num_cols - c0 : kMaxCols;
    const char* x0 = static_cast<const char*>(x) + c0 * x_stride;
    for (std::int64_t r = row_begin; r < row_end; r += kRows) {
      const std::int64_t rows = row_end - r < kRows ? row_end - r : kRows;
      const char* w0 = static_cast<const char*>(w) + r * row_bytes;
      for (std::int64_t j = 0; j < rows; ++j)
        for (std::int64_t c = 0; c < cols; ++c) sums[j * kMaxCols + c] = typename Kernel::Sum{};

      for (std::int64_t i = 0; i < k; i += kChunk) {
        const std::int64_t n = k - i < kChunk ? k - i : kChunk;
        for (std::int64_t j = 0; j < rows; ++j) Kernel::unpack(panels[j], w0 + j * row_bytes, i, n);
        std::int64_t c = 0;
        if (rows == kRows) {
          for (; c + kCols <= cols; c += kCols)
            Kernel::template tile<kRows, kCols>(sums + c, panels, x0 + c * x_stride, x_stride, i,
                                                n);
          for (; c < cols; ++c)
            Kernel::template tile<kRows, 1>(sums + c, panels, x0 + c * x_stride, x_stride, i, n);
        } else {
          for (; c < cols; ++c)
            for (std::int64_t j = 0; j < rows; ++j)
              Kernel::template tile<1, 1>(sums + j * kMaxCols + c, panels + j, x0 + c * x_stride,
                                          x_stride, i, n);
        }
      }
      for (std::int64_t j = 0; j < rows; ++j)
        for (std::int64_t c = 0; c < cols; ++c)
          y[(c0 + c) * y_stride + r + j] = Kernel::total(sums[j * kMaxCols + c]);
    }
  }
}

}  // namespace
}  // namespace rocmforge::cpu
