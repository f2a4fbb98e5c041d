// The vectors of AVX-512 as the Iv of cpu/panel/multiply_body.hpp wants them: one is a whole panel.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "quant/blocks.hpp"

namespace rocmforge::cpu {
namespace {

struct Avx512Lanes {
  static constexpr int kLanes = 16;
  static constexpr bool kAnyByte = true;
  static constexpr int kFourUnitsColumns = 4;  // four units up to so many columns
  static constexpr int kFewGroup = 8;          // times two units, their sums of floats in memory
  static constexpr int kManyGroup = 6;         // times two units: 12 sums of integers, 12 of floats
  using Bytes = __m512i;
  using Ints = __m512i;
  using Word = Ints;
  using Floats = __m512;

  static Bytes load(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  static void store(std::uint8_t* p, Bytes v) { _mm512_storeu_si512(p, v); }
  static Bytes add_bytes(Bytes v, int n) {
    return _mm512_add_epi8(v, _mm512_set1_epi8(static_cast<char>(n)));
  }
  // (v >> kShift) & kMask in each byte
  template <int kShift, int kMask>
  static Bytes bits(Bytes v) {
    if constexpr (kShift != 0) v = _mm512_srli_epi16(v, kShift);
    return _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>(kMask)));
  }
  // v | (the bits of `high` from kFrom on, moved to kTo, & kMask)
  template <int kFrom, int kTo, int kMask>
  static Bytes with_bits(Bytes v, Bytes high) {
    if constexpr (kFrom > kTo) high = _mm512_srli_epi16(high, kFrom - kTo);
    if constexpr (kFrom < kTo) high = _mm512_slli_epi16(high, kTo - kFrom);
    constexpr int kOrAnd = 0xf8;  // a | (b & c)
    return _mm512_ternarylogic_epi64(v, high, _mm512_set1_epi8(static_cast<char>(kMask)), kOrAnd);
  }
  static Bytes look_up(const std::uint8_t* table, Bytes codes) {
    const __m128i t = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), codes);
  }

  // Four activations, those of group kGroup, in every lane.
  template <int kGroup>
  static Word word(const std::int8_t* x) {
    return _mm512_set1_epi32(*reinterpret_cast<const int*>(x));
  }

  static Floats zero() { return _mm512_setzero_ps(); }
  static Floats set(const float* p) { return _mm512_set1_ps(*p); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats negated_fma(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }
  static Floats negated(Floats a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
  static Floats floats(Ints v) { return _mm512_cvtepi32_ps(v); }
  static void store(float* p, Floats v, std::int64_t n) {
    const auto mask = static_cast<__mmask16>(n >= 16 ? 0xffff : (1 << n) - 1);
    _mm512_mask_storeu_ps(p, mask, v);
  }

  static __m128i sixteen(const std::uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static Floats halves(const std::uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats signed_bytes(const std::uint8_t* p) {
    return floats(_mm512_cvtepi8_epi32(sixteen(p)));
  }
  static Floats unsigned_bytes(const std::uint8_t* p) {
    return floats(_mm512_cvtepu8_epi32(sixteen(p)));
  }
  static Floats low_nibbles(const std::uint8_t* p) {
    return floats(_mm512_cvtepu8_epi32(_mm_and_si128(sixteen(p), _mm_set1_epi8(15))));
  }
  static Floats high_nibbles(const std::uint8_t* p) {
    const __m128i high = _mm_and_si128(_mm_srli_epi16(sixteen(p), 4), _mm_set1_epi8(15));
    return floats(_mm512_cvtepu8_epi32(high));
  }
  // quant::e8m0_half_to_float
  static Floats e8m0_halves(const std::uint8_t* p) {
    const __m512i e = _mm512_cvtepu8_epi32(sixteen(p));
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __m512i subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    const __mmask16 low = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, low, subnormal));
  }
  static Floats values(const quant::BlockF32* p) {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(p));
  }
  static Floats values(const quant::BlockF16* p) {
    return halves(reinterpret_cast<const std::uint8_t*>(p));
  }
  static Floats values(const quant::BlockBF16* p) {
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
  }
};

}  // namespace
}  // namespace rocmforge::cpu
