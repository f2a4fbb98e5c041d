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

// Ba, Kiros & Hinton, "Layer Normalization", arXiv:1607.06450. The variance is summed after the
// mean is known, so that no digits cancel.
inline void layer_norm_body(float* y, const float* x, const float* weight, const float* bias,
                            std::int64_t n, float eps) {
  Vec total = Vec::zero();
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) total = Vec::add(total, Vec::load(x + i));
  float sum = total.sum();
  for (; i < n; ++i) sum += x[i];
  const float mean = sum / static_cast<float>(n);

  const Vec shift = Vec::set(-mean);
  Vec squares = Vec::zero();
  for (i = 0; i + Vec::kWidth <= n; i += Vec::kWidth) {
    const Vec v = Vec::add(Vec::load(x + i), shift);
    squares = Vec::fma(v, v, squares);
  }
  sum = squares.sum();
  for (; i < n; ++i) sum += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(n) + eps);

  const Vec s = Vec::set(scale);
  for (i = 0; i + Vec::kWidth <= n; i += Vec::kWidth) {
    const Vec v = Vec::mul(Vec::add(Vec::load(x + i), shift), s);
    Vec::fma(v, Vec::load(weight + i), Vec::load(bias + i)).store(y + i);
  }
  for (; i < n; ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

inline void silu_gated_body(float* y, const float* x, std::int64_t n) {
  silu_mul_body(y, x, x + n, n);
}

// f over vectors; what is left goes through a vector whose other lanes are not used, so that all
// elements of a row are computed alike.
template <class F>
inline void for_vectors(std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) f(i, Vec::kWidth);
  if (i < n) f(i, n - i);
}

inline Vec load_some(const float* x, std::int64_t count) {
  if (count == Vec::kWidth) return Vec::load(x);
  float lanes[Vec::kWidth] = {};
  for (std::int64_t i = 0; i < count; ++i) lanes[i] = x[i];
  return Vec::load(lanes);
}

inline void store_some(float* y, Vec v, std::int64_t count) {
  if (count == Vec::kWidth) return v.store(y);
  float lanes[Vec::kWidth];
  v.store(lanes);
  for (std::int64_t i = 0; i < count; ++i) y[i] = lanes[i];
}

// 1 / (1 + exp(-x))
inline Vec sigmoid(Vec x) {
  const Vec one = Vec::set(1.0f);
  return Vec::div(one, Vec::add(one, Vec::exp(Vec::mul(x, Vec::set(-1.0f)))));
}

// Hendrycks & Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415, by their tanh:
// x / 2 (1 + tanh u) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
inline Vec gelu(Vec x) {
  const Vec cubic = Vec::fma(Vec::mul(x, x), Vec::set(0.044715f), Vec::set(1.0f));
  const Vec u = Vec::mul(Vec::mul(x, cubic), Vec::set(2.0f * 0.79788456f));
  return Vec::mul(x, sigmoid(u));
}

inline void gelu_body(float* y, const float* x, std::int64_t n) {
  for_vectors(n, [=](std::int64_t i, std::int64_t count) {
    store_some(y + i, gelu(load_some(x + i, count)), count);
  });
}

// max(x, 0)^2; So et al., "Primer", arXiv:2109.08668.
inline void relu_squared_body(float* y, const float* x, std::int64_t n) {
  for_vectors(n, [=](std::int64_t i, std::int64_t count) {
    const Vec v = Vec::max(Vec::zero(), load_some(x + i, count));  // a NaN stays
    store_some(y + i, Vec::mul(v, v), count);
  });
}

inline void gelu_gated_body(float* y, const float* x, std::int64_t n) {
  for_vectors(n, [=](std::int64_t i, std::int64_t count) {
    const Vec up = load_some(x + n + i, count);
    store_some(y + i, Vec::mul(gelu(load_some(x + i, count)), up), count);
  });
}

// Of gpt-oss (openai/gpt-oss, torch/model.py: swiglu with alpha 1.702 and limit 7).
inline void oai_gated_body(float* y, const float* x, std::int64_t n) {
  const Vec limit = Vec::set(7.0f), one = Vec::set(1.0f), minus = Vec::set(-1.0f);
  const auto at_most = [=](Vec v) {  // -max(-v, -limit): a NaN stays
    const Vec turned = Vec::mul(v, minus);
    return Vec::mul(Vec::max(Vec::set(-7.0f), turned), minus);
  };
  for_vectors(n, [=](std::int64_t i, std::int64_t count) {
    const Vec gate = at_most(load_some(x + i, count));
    const Vec up = Vec::max(Vec::mul(limit, minus), at_most(load_some(x + n + i, count)));
    const Vec act = Vec::mul(gate, sigmoid(Vec::mul(gate, Vec::set(1.702f))));
    store_some(y + i, Vec::mul(act, Vec::add(up, one)), count);
  });
}

inline void scale_body(float* x, float factor, std::int64_t n) {
  const Vec f = Vec::set(factor);
  for_vectors(n, [=](std::int64_t i, std::int64_t count) {
    store_some(x + i, Vec::mul(load_some(x + i, count), f), count);
  });
}

// tanh(z) = 1 - 2 / (1 + exp(2 z))
inline void soft_cap_body(float* x, float cap, std::int64_t n) {
  const Vec twice = Vec::set(2.0f / cap), one = Vec::set(1.0f), c = Vec::set(cap);
  for_vectors(n, [=](std::int64_t i, std::int64_t count) {
    const Vec e = Vec::exp(Vec::mul(load_some(x + i, count), twice));
    const Vec tanh = Vec::fma(Vec::set(-2.0f), Vec::div(one, Vec::add(one, e)), one);
    store_some(x + i, Vec::mul(c, tanh), count);
  });
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

// Everything here but the float16 rows of a cache, for which units have instructions.
inline void install_bodies(Kernels& k) {
  k.rms_norm = rms_norm_body;
  k.layer_norm = layer_norm_body;
  k.silu_mul = silu_mul_body;
  k.activate[static_cast<int>(Activation::kSiluGated)] = silu_gated_body;
  k.activate[static_cast<int>(Activation::kGeluGated)] = gelu_gated_body;
  k.activate[static_cast<int>(Activation::kOaiGated)] = oai_gated_body;
  k.activate[static_cast<int>(Activation::kGelu)] = gelu_body;
  k.activate[static_cast<int>(Activation::kReluSquared)] = relu_squared_body;
  k.scale = scale_body;
  k.soft_cap = soft_cap_body;
  k.add = add_body;
  k.rope = rope_body;
  k.store_kv[static_cast<int>(KvType::kBf16)] = store_bf16_body;
  k.store_kv[static_cast<int>(KvType::kQ8_0)] = store_q8_0_body;
  k.store_kv[static_cast<int>(KvType::kF32)] = store_f32_body;
}

}  // namespace
}  // namespace rocmforge::cpu
