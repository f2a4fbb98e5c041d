// Vec of AVX-512F: sixteen lanes.
#pragma once

#include <immintrin.h>
#include <math.h>

#include <cstdint>

#include "quant/small_floats.hpp"

namespace rocmforge::cpu {
namespace {

struct Vec {
  static constexpr std::int64_t kWidth = 16;
  // A block of sums in registers: 24 of 32, with a column of vectors and one factor beside it.
  static constexpr int kBlockRows = 6, kBlockVectors = 4;
  __m512 v;

  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const std::uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vec load(const std::int8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
  }
  static Vec load_bf16(const std::uint16_t* p) {
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16))};
  }
  static Vec set_half(const std::uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(*p)))};
  }
  static Vec set(float x) { return {_mm512_set1_ps(x)}; }
  static Vec zero() { return {_mm512_setzero_ps()}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  static Vec mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  static Vec div(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }

  // b where either is NaN.
  static Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }

  // As in avx2/vec.hpp; scalef covers the whole exponent range, so 2^n needs no special cases.
  static Vec exp(Vec a) {
    const __m512 x = a.v;
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    __m512 y = _mm512_scalef_ps(p, n);
    // At +-infinity r is NaN; everything else has come out right.
    const __mmask16 low = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-104.0f), _CMP_LT_OQ);
    const __mmask16 high = _mm512_cmp_ps_mask(x, _mm512_set1_ps(88.8f), _CMP_GT_OQ);
    y = _mm512_mask_blend_ps(low, y, _mm512_setzero_ps());
    return {_mm512_mask_blend_ps(high, y, _mm512_set1_ps(INFINITY))};
  }

  float sum() const { return _mm512_reduce_add_ps(v); }
  float highest() const { return _mm512_reduce_max_ps(v); }
};

}  // namespace
}  // namespace rocmforge::cpu
