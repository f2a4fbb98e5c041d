// Products with the file's own rows: weights decoded into the cache, and the loop over tiles.
//
// A chunk of 256 weights of a few rows is decoded (a few KB, in L1) and used for all columns of the
// call, so a format is one unpack function. Columns go in groups of kMaxCols whose running sums
// stay in L1 across chunks, row by row of the file's own layout.
//
// Every tile shape does the same operations on a (row, column) pair in the same order, lane by
// lane; that is the invariant of kernels.hpp.
#pragma once

#include <cstdint>

#include "cpu/unrolled.hpp"
#include "quant/blocks.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kChunk = 256;  // weights; a whole number of blocks of every format
constexpr std::int64_t kMaxCols = 64;
// Sums of consecutive rows: not a multiple of 4 KB apart, so that a load of one is not taken to
// depend on the store of another.
constexpr std::int64_t kSumStride = kMaxCols + 1;

// 256 weights of a row in a format with blocks of 32: weight i is d[i / 32] * q[i] + m[i / 32].
struct alignas(64) Unpacked32 {
  std::int8_t q[256];
  float d[8];
  float m[8];  // formats with a min only
};

// 256 weights of a row of a K-quant. With s = scales[i / 16], weight i is one of
//   d * s * q[i] - mins[i / 16]         formats with a min: q is unsigned
//   d * s * (q[i] - kOffset)            q is unsigned
//   d * s * q[i]                        q is signed
struct alignas(64) Unpacked256 {
  std::uint8_t q[256];
  std::int16_t scales[16];
  float mins[16];
  float d;
};

// Calls f<r, c>() for every cell of a tile. With constant indices GCC 12 keeps an array of sums in
// registers throughout; with loops it also stores all of it on entry and exit.
template <int R, int C, class F>
inline void for_tile(F f) {
  unrolled<R>([&]<int r>() { unrolled<C>([&]<int c>() { f.template operator()<r, c>(); }); });
}

// Hints that [p, p + bytes) will be read; the address need not be mapped. The hardware prefetcher
// does not follow several rows at once: without this one column of Q4_0 reads 5.2 GB/s a thread,
// with it 11.5 (into L1 instead of L2: 11.0; Xeon with AMX, read limit 15 to 18).
inline void prefetch(const char* p, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

// Kernel supplies
//   kRows, kCols               the largest tile
//   kWeightBytes, kInputBytes  size of a chunk of a row and of a column
//   Decoded                    one row's chunk
//   Sum                        the vector of partial sums of one (row, column)
//   unpack(decoded, w, n)       decodes the n weights of the chunk at w
//   tile<R, C>(sums, decoded, x, x_stride, n)
//                              adds the products of that chunk for R rows and C columns;
//                              the sums of a row lie kSumStride apart
//   total(sum)                 the sum of the lanes

// R rows from w on, cols <= kMaxCols columns from x on; more_rows: R further ones will follow.
template <class Kernel, int R>
inline void row_group(float* y, std::int64_t y_stride, const char* w, std::int64_t row_bytes,
                      const char* x, std::int64_t x_stride, std::int64_t k, std::int64_t cols,
                      bool more_rows) {
  constexpr int kCols = Kernel::kCols;
  typename Kernel::Decoded decoded[R];
  typename Kernel::Sum sums[R * kSumStride];
  for (int r = 0; r < R; ++r)
    for (std::int64_t c = 0; c < cols; ++c) sums[r * kSumStride + c] = typename Kernel::Sum{};

  auto add_chunk = [&](std::int64_t n) __attribute__((always_inline)) {
    for (int r = 0; r < R; ++r) {
      if (more_rows) prefetch(w + (r + R) * row_bytes, Kernel::kWeightBytes);
      Kernel::unpack(decoded[r], w + r * row_bytes, n);
    }
    const char* x_c = x;
    std::int64_t c = 0;
    for (; c + kCols <= cols; c += kCols, x_c += kCols * x_stride)
      Kernel::template tile<R, kCols>(sums + c, decoded, x_c, x_stride, n);
    for (; c < cols; ++c, x_c += x_stride)
      Kernel::template tile<R, 1>(sums + c, decoded, x_c, x_stride, n);
  };
  for (; k >= kChunk; k -= kChunk) {
    add_chunk(kChunk);
    w += Kernel::kWeightBytes;
    x += Kernel::kInputBytes;
  }
  if (k > 0) add_chunk(k);

  for (int r = 0; r < R; ++r)
    for (std::int64_t c = 0; c < cols; ++c)
      y[c * y_stride + r] = Kernel::total(sums[r * kSumStride + c]);
}

template <class Kernel>
void linear_tiles(float* y, std::int64_t y_stride, const void* w, std::int64_t row_bytes,
                  const void* x, std::int64_t x_stride, std::int64_t k, std::int64_t row_begin,
                  std::int64_t row_end, std::int64_t num_cols) {
  constexpr int kRows = Kernel::kRows;
  for (std::int64_t c = 0; c < num_cols; c += kMaxCols) {
    const std::int64_t cols = num_cols - c < kMaxCols ? num_cols - c : kMaxCols;
    const char* x0 = static_cast<const char*>(x) + c * x_stride;
    float* y0 = y + c * y_stride;
    std::int64_t r = row_begin;
    for (; r + kRows <= row_end; r += kRows)
      row_group<Kernel, kRows>(y0 + r, y_stride, static_cast<const char*>(w) + r * row_bytes,
                               row_bytes, x0, x_stride, k, cols, r + 2 * kRows <= row_end);
    for (; r < row_end; ++r)
      row_group<Kernel, 1>(y0 + r, y_stride, static_cast<const char*>(w) + r * row_bytes, row_bytes,
                           x0, x_stride, k, cols, r + 1 < row_end);
  }
}

}  // namespace
}  // namespace rocmforge::cpu
