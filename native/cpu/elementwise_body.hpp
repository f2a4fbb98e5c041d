// Norm, activation, addition and rope, written over the Vec of the including ISA unit.
#pragma once

#include <math.h>
#include <string.h>

#include <cstdint>

#include "cpu/kernels.hpp"

namespace rocmforge::cpu {
namespace {

// Zhang & Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467. The sum of squares
// is kept in float over lanes: its relative error is below n / lanes * 2^-24.
inline void rms_norm_body(float* y, const float* x, const float* weight, std::int64_t n,
                          float eps) {
  Vec squares = Vec::zero();
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    const Vec v = Vec::load(x + i);
    squares = Vec::fma(v, v, squares);
  }
  float sum = squares.sum();
  for (; i < n; ++i) sum += x[i] * x[i];
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(n) + eps);

  const Vec s = Vec::set(scale);
  for (i = 0; i + Vec::kWidth <= n; i += Vec::kWidth)
    Vec::mul(Vec::mul(Vec::load(x + i), s), Vec::load(weight + i)).store(y + i);
  for (; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

// silu(x) = x / (1 + exp(-x))
inline void silu_mul_body(float* y, const float* gate, const float* up, std::int64_t n) {
  const Vec one = Vec::set(1.0f), minus_one = Vec::set(-1.0f);
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    const Vec g = Vec::load(gate + i);
    const Vec denominator = Vec::add(one, Vec::exp(Vec::mul(g, minus_one)));
    Vec::mul(Vec::div(g, denominator), Vec::load(up + i)).store(y + i);
  }
  for (; i < n; ++i) y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

inline void add_body(float* y, const float* x, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth)
    Vec::add(Vec::load(y + i), Vec::load(x + i)).store(y + i);
  for (; i < n; ++i) y[i] += x[i];
}

inline void rope_body(float* head, const float* cos, const float* sin, std::int64_t rotary_dim,
                      bool interleaved) {
  const std::int64_t half = rotary_dim / 2;
  const std::int64_t step = interleaved ? 2 : 1;      // from one pair's first element to the next's
  const std::int64_t apart = interleaved ? 1 : half;  // between the two elements of a pair
  for (std::int64_t i = 0; i < half; ++i) {
    float& a = head[i * step];
    float& b = head[i * step + apart];
    const float x = a, y = b;
    a = x * cos[i] - y * sin[i];
    b = x * sin[i] + y * cos[i];
  }
}

inline void store_f32_body(void* y, const float* x, std::int64_t n) {
  memcpy(y, x, static_cast<std::size_t>(n) * sizeof(float));
}

}  // namespace
}  // namespace rocmforge::cpu
