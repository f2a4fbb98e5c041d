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

inline void store_bf16_body(void* y, const float* x, std::int64_t n) {
  auto* out = static_cast<std::uint16_t*>(y);
  for (std::int64_t i = 0; i < n; ++i) out[i] = quant::float_to_bf16(x[i]);
}

// Blocks of 32: d = max|x| / 127 as float16, q = x / d to the nearest integer, so that
// |x - d * q| <= d / 2 but for rounding, while d is a normal float16 (max|x| from 0.0078 to
// 8.3e6). Below, d is less exact and q is kept within +-127. Where an x is infinite, NaN or
// above, d is infinite or NaN, and so is what comes back.
inline void store_q8_0_body(void* y, const float* x, std::int64_t n) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction
  auto* block = static_cast<std::uint8_t*>(y);
  for (; n > 0; n -= 32, x += 32, block += 34) {
    std::int32_t highest = 0;  // as bits, so that a NaN is the highest
    for (int i = 0; i < 32; ++i) {
      const auto bits = static_cast<std::int32_t>(quant::bits_of_float(x[i]) & 0x7fffffffu);
      highest = bits > highest ? bits : highest;
    }
    const float largest = quant::float_of_bits(static_cast<std::uint32_t>(highest));
    const std::uint16_t half = quant::float_to_half(largest / 127.0f);
    const float d = quant::half_to_float(half);
    const float inverse = d > 0.0f ? 1.0f / d : 0.0f;
    memcpy(block, &half, sizeof half);
    for (int i = 0; i < 32; ++i) {
      float q = x[i] * inverse;
      q = q < 127.0f ? q : 127.0f;
      q = q > -127.0f ? q : -127.0f;
      block[2 + i] = static_cast<std::uint8_t>(static_cast<std::int32_t>((q + kRound) - kRound));
    }
  }
}

}  // namespace
}  // namespace rocmforge::cpu
