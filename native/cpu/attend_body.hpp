// Attention of one query token over paged keys and values with an online softmax
// (Milakov & Gimelshein, arXiv:1805.02867), written over the Vec of the including ISA unit.
//
// Positions are taken in tiles of kAttendTile counted from position 0, so the order of every sum
// depends on the sequence alone: not on the page size, on how the prompt was chunked, or on what
// else is in the batch. Keys and values are converted once for all query heads of the group.
//
// No std:: templates here or in elementwise_body.hpp: what is not inlined becomes a weak symbol
// with this unit's instructions in it (core/hd.hpp).
#pragma once

#include <math.h>

#include <cstddef>
#include <cstdint>

#include "cpu/kernels.hpp"

namespace rocmforge::cpu {
namespace {

inline float dot(const float* a, const float* b, std::int64_t n) {
  Vec even = Vec::zero(), odd = Vec::zero();
  std::int64_t i = 0;
  for (; i + 2 * Vec::kWidth <= n; i += 2 * Vec::kWidth) {
    even = Vec::fma(Vec::load(a + i), Vec::load(b + i), even);
    odd = Vec::fma(Vec::load(a + i + Vec::kWidth), Vec::load(b + i + Vec::kWidth), odd);
  }
  float sum = Vec::add(even, odd).sum();
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

inline void add_scaled(float* y, const float* x, float factor, std::int64_t n) {
  const Vec f = Vec::set(factor);
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth)
    Vec::fma(f, Vec::load(x + i), Vec::load(y + i)).store(y + i);
  for (; i < n; ++i) y[i] += factor * x[i];
}

inline void scale_by(float* y, float factor, std::int64_t n) {
  const Vec f = Vec::set(factor);
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) Vec::mul(f, Vec::load(y + i)).store(y + i);
  for (; i < n; ++i) y[i] *= factor;
}

inline void exp_in_place(float* y, float minus, std::int64_t n) {
  const Vec m = Vec::set(-minus);
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth)
    Vec::exp(Vec::add(Vec::load(y + i), m)).store(y + i);
  for (; i < n; ++i) y[i] = expf(y[i] - minus);
}

// The row itself where it is float already, else its conversion in `buffer`.
inline const float* as_floats(const float* row, float*, std::int64_t) { return row; }
inline const float* as_floats(const std::uint16_t* row, float* buffer, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) Vec::load(row + i).store(buffer + i);
  for (; i < n; ++i) buffer[i] = quant::half_to_float(row[i]);
  return buffer;
}

// Row `position` of a paged matrix with `width` elements a row.
template <class Element>
inline const Element* paged_row(const AttendArgs& a, const void* base, std::int64_t position,
                                std::int64_t width) {
  const std::int64_t block = a.block_table[position / a.block_size];
  const auto* bytes = static_cast<const std::byte*>(base) + block * a.block_stride;
  return reinterpret_cast<const Element*>(bytes) + position % a.block_size * width;
}

template <class Element>
void attend_body(const AttendArgs& a) {
  float* scores = a.scratch;                        // [group, kAttendTile]
  float* maximum = scores + a.group * kAttendTile;  // [group]
  float* sum = maximum + a.group;                   // [group]
  float* row = sum + a.group;                       // one key or value row

  for (std::int64_t g = 0; g < a.group; ++g) maximum[g] = -INFINITY;
  for (std::int64_t g = 0; g < a.group; ++g) sum[g] = 0.0f;
  for (std::int64_t i = 0; i < a.group * a.value_dim; ++i) a.y[i] = 0.0f;

  for (std::int64_t tile = 0; tile < a.seq_len; tile += kAttendTile) {
    const std::int64_t n = a.seq_len - tile < kAttendTile ? a.seq_len - tile : kAttendTile;
    for (std::int64_t j = 0; j < n; ++j) {
      const float* k =
          as_floats(paged_row<Element>(a, a.k_base, tile + j, a.head_dim), row, a.head_dim);
      for (std::int64_t g = 0; g < a.group; ++g)
        scores[g * kAttendTile + j] = a.scale * dot(a.q + g * a.head_dim, k, a.head_dim);
    }
    for (std::int64_t g = 0; g < a.group; ++g) {
      float* s = scores + g * kAttendTile;
      float highest = maximum[g];
      for (std::int64_t j = 0; j < n; ++j) highest = s[j] > highest ? s[j] : highest;
      const float shrink = expf(maximum[g] - highest);
      scale_by(a.y + g * a.value_dim, shrink, a.value_dim);
      exp_in_place(s, highest, n);
      float total = 0.0f;
      for (std::int64_t j = 0; j < n; ++j) total += s[j];
      sum[g] = sum[g] * shrink + total;
      maximum[g] = highest;
    }
    for (std::int64_t j = 0; j < n; ++j) {
      const float* v =
          as_floats(paged_row<Element>(a, a.v_base, tile + j, a.value_dim), row, a.value_dim);
      for (std::int64_t g = 0; g < a.group; ++g)
        add_scaled(a.y + g * a.value_dim, v, scores[g * kAttendTile + j], a.value_dim);
    }
  }
  for (std::int64_t g = 0; g < a.group; ++g)
    scale_by(a.y + g * a.value_dim, 1.0f / sum[g], a.value_dim);
}

}  // namespace
}  // namespace rocmforge::cpu
