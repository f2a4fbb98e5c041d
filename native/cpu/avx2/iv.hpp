// Iv and Dot (cpu/panel/multiply_body.hpp) of AVX2, FMA and F16C: a vector is half a panel.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "quant/blocks.hpp"

namespace rocmforge::cpu {
namespace {

struct Iv {
  static constexpr int kLanes = 8;
  static constexpr bool kSignedBytes = false;
  static constexpr bool kAnyByte = false;
  static constexpr int kFourUnitsColumns = 2;  // four units up to so many columns
  static constexpr int kFewGroup = 4;
  static constexpr int kManyGroup = 4;
  using Bytes = __m256i;
  using Ints = __m256i;
  using Word = Ints;
  using Floats = __m256;

  static Bytes load(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static void store(std::uint8_t* p, Bytes v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
  static Bytes add_bytes(Bytes v, int n) {
    return _mm256_add_epi8(v, _mm256_set1_epi8(static_cast<char>(n)));
  }
  // (v >> kShift) & kMask in each byte
  template <int kShift, int kMask>
  static Bytes bits(Bytes v) {
    if constexpr (kShift != 0) v = _mm256_srli_epi16(v, kShift);
    return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(kMask)));
  }
  // v | (the bits of `high` from kFrom on, moved to kTo, & kMask)
  template <int kFrom, int kTo, int kMask>
  static Bytes with_bits(Bytes v, Bytes high) {
    if constexpr (kFrom > kTo) high = _mm256_srli_epi16(high, kFrom - kTo);
    if constexpr (kFrom < kTo) high = _mm256_slli_epi16(high, kTo - kFrom);
    return _mm256_or_si256(v, _mm256_and_si256(high, _mm256_set1_epi8(static_cast<char>(kMask))));
  }
  static Bytes look_up(const std::uint8_t* table, Bytes codes) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(sixteen(table)), codes);
  }

  // Four activations, those of group kGroup, in every lane.
  template <int kGroup>
  static Word word(const std::int8_t* x) {
    int word;
    __builtin_memcpy(&word, x, 4);
    return _mm256_set1_epi32(word);
  }

  static Floats zero() { return _mm256_setzero_ps(); }
  static Floats set(const float* p) { return _mm256_broadcast_ss(p); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats negated_fma(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }
  static Floats negated(Floats a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
  static Floats floats(Ints v) { return _mm256_cvtepi32_ps(v); }
  static void store(float* p, Floats v, std::int64_t n) {
    if (n >= 8) return _mm256_storeu_ps(p, v);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane), v);
  }

  static __m128i sixteen(const std::uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static __m128i eight(const std::uint8_t* p) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  }
  static Floats halves(const std::uint8_t* p) { return _mm256_cvtph_ps(sixteen(p)); }
  static Floats signed_bytes(const std::uint8_t* p) {
    return floats(_mm256_cvtepi8_epi32(eight(p)));
  }
  static Floats unsigned_bytes(const std::uint8_t* p) {
    return floats(_mm256_cvtepu8_epi32(eight(p)));
  }
  static Floats low_nibbles(const std::uint8_t* p) {
    return floats(_mm256_cvtepu8_epi32(_mm_and_si128(eight(p), _mm_set1_epi8(15))));
  }
  static Floats high_nibbles(const std::uint8_t* p) {
    const __m128i high = _mm_and_si128(_mm_srli_epi16(eight(p), 4), _mm_set1_epi8(15));
    return floats(_mm256_cvtepu8_epi32(high));
  }
  // quant::e8m0_half_to_float
  static Floats e8m0_halves(const std::uint8_t* p) {
    const __m256i e = _mm256_cvtepu8_epi32(eight(p));
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    const __m256i low = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, low));
  }
  static Floats values(const quant::BlockF32* p) {
    return _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats values(const quant::BlockF16* p) {
    return halves(reinterpret_cast<const std::uint8_t*>(p));
  }
  static Floats values(const quant::BlockBF16* p) {
    const __m128i high = sixteen(reinterpret_cast<const std::uint8_t*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(high), 16));
  }
};

// In assembly: GCC 12 turns a chain of the intrinsic into a tree and spills it.
inline __m256i added(__m256i a, __m256i b) {
  asm("vpaddw %1, %0, %0" : "+x"(a) : "x"(b));
  return a;
}

// Products of unsigned bytes are added in pairs to 16 bits, as many of which are summed as cannot
// overflow: 2 * 127 * kMaxCode each. The offset is added last: registers are few.
template <int kMaxCode, int kGroups>
struct Dot {
  static constexpr int kRun = 32767 / (2 * 127 * kMaxCode);
  Iv::Ints sum;
  __m256i words;
  const std::int32_t* offset;  // -128 times the sum of the activations
  int shift;

  template <int kBias>
  [[gnu::always_inline]] void start(const std::int32_t& offset_of) {
    offset = &offset_of;
    shift = kBias == 0 ? -1 : 7 - __builtin_ctz(kBias | 256);
  }
  template <int kGroup>
  [[gnu::always_inline]] void add(Iv::Bytes w, Iv::Word x) {
    const __m256i products = _mm256_maddubs_epi16(w, x);
    if constexpr (kGroup % kRun == 0)
      words = products;
    else
      words = added(words, products);
    if constexpr (kGroup % kRun == kRun - 1 || kGroup == kGroups - 1) {
      const __m256i pairs = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
      sum = kGroup < kRun ? pairs : _mm256_add_epi32(sum, pairs);
    }
  }
  [[gnu::always_inline]] Iv::Ints finish() const {
    if (shift < 0) return sum;
    return _mm256_add_epi32(sum, _mm256_srai_epi32(_mm256_set1_epi32(*offset), shift));
  }
};

// Of bytes stored with an offset of 128: their magnitude (at most 128) times activations with their
// sign, 2 * 128 * 127 at most.
template <int kGroups>
struct Dot<255, kGroups> {
  Iv::Ints sum;

  template <int kBias>
  [[gnu::always_inline]] void start(const std::int32_t&) {
    static_assert(kBias == 128);
    sum = _mm256_setzero_si256();
  }
  template <int kGroup>
  [[gnu::always_inline]] void add(Iv::Bytes w, Iv::Word x) {
    const __m256i integers = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    const __m256i products =
        _mm256_maddubs_epi16(_mm256_abs_epi8(integers), _mm256_sign_epi8(x, integers));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
  }
  [[gnu::always_inline]] Iv::Ints finish() const { return sum; }
};

}  // namespace
}  // namespace rocmforge::cpu
