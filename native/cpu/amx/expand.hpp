// Weights of a row as bfloat16, 64 at a time: what an expander is, and those of the float formats
// and of blocks of 32 weights. expand_k.hpp has the K-quants.
//
//   Scales                    what the steps of up to kDepth weights of a row share
//   prepare(scales, w, n)     from the n weights at w
//   step(scales, w, j)        weights 64 j .. 64 j + 63 of them, all present
//
// A weight is computed in float32 as in quant::decode, except that a multiplication and an addition
// may be fused, and rounded to bfloat16 to nearest even.
//
// Codes of four and five bits are looked up: the sixteen or thirty-two values that the codes of a
// block can take are computed once, and vpermw picks one for each of 32 weights. Two blocks of
// sixteen values share a table.
#pragma once

#include "cpu/amx/layout.hpp"
#include "cpu/avx512/unpack_q8x32.hpp"

namespace rocmforge::cpu {
namespace {

struct Pair {
  __m512i first, second;  // 32 bfloat16 each
};

inline __m512i rounded(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

inline __m512 floats_of_bytes(const void* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load128(p)));
}

// first, first + 1 .. first + 15
inline __m512 sixteen_from(int first) {
  const __m512i i = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_cvtepi32_ps(_mm512_add_epi32(i, _mm512_set1_epi32(first)));
}

// The nibbles of sixteen bytes as words, low ones first. Bits 4 and up are zero in the second half
// and hold the high nibble in the first.
inline __m512i nibble_words(const void* bytes) {
  const __m512i pick = _mm512_setr_epi64(0x8003800280018000, 0x8007800680058004, 0x800b800a80098008,
                                         0x800f800e800d800c, 0x8003800280018000, 0x8007800680058004,
                                         0x800b800a80098008, 0x800f800e800d800c);
  const __m512i shifts = _mm512_setr_epi64(0, 0, 0, 0, 0x0004000400040004, 0x0004000400040004,
                                           0x0004000400040004, 0x0004000400040004);
  const __m512i lanes = _mm512_broadcast_i32x4(load128(bytes));
  return _mm512_srlv_epi16(_mm512_shuffle_epi8(lanes, pick), shifts);
}

inline __m512i low_nibbles(__m512i words) { return _mm512_and_si512(words, _mm512_set1_epi16(15)); }
inline __m512i low_nibbles_plus_16(__m512i words) {  // (words & 15) | 16
  return _mm512_ternarylogic_epi64(words, _mm512_set1_epi16(15), _mm512_set1_epi16(16), 0xea);
}

// Two runs of 32 nibbles, looked up among sixteen values each.
inline Pair looked_up_pair(__m512i first, __m512i second, __m512 first_values,
                           __m512 second_values) {
  const __m512i table = rounded(first_values, second_values);
  return {_mm512_permutexvar_epi16(low_nibbles(first), table),
          _mm512_permutexvar_epi16(low_nibbles_plus_16(second), table)};
}

// The values of a block's nibbles before scaling.
template <class Block>
inline __m512 nibble_values() {
  return sixteen_from(0);
}
template <>
inline __m512 nibble_values<quant::BlockQ4_0>() {
  return sixteen_from(-8);
}
template <>
inline __m512 nibble_values<quant::BlockIQ4_NL>() {
  return floats_of_bytes(kIq4Values.values);
}
template <>
inline __m512 nibble_values<quant::BlockIQ4_XS>() {
  return floats_of_bytes(kIq4Values.values);
}
template <>
inline __m512 nibble_values<quant::BlockMXFP4>() {
  return floats_of_bytes(kE2m1Doubled.values);
}

template <class Block>
struct Expander;

struct NoScales {};

template <>
struct Expander<quant::BlockF32> {
  using Scales = NoScales;
  static void prepare(Scales&, const char*, std::int64_t) {}
  static Pair step(const Scales&, const char* w, std::int64_t j) {
    const char* p = w + 256 * j;
    return {rounded(_mm512_loadu_ps(p), _mm512_loadu_ps(p + 64)),
            rounded(_mm512_loadu_ps(p + 128), _mm512_loadu_ps(p + 192))};
  }
};

template <>
struct Expander<quant::BlockF16> {
  using Scales = NoScales;
  static void prepare(Scales&, const char*, std::int64_t) {}
  static Pair step(const Scales&, const char* w, std::int64_t j) {
    const auto at = [p = w + 128 * j](int i) { return _mm512_cvtph_ps(load256(p + 32 * i)); };
    return {rounded(at(0), at(1)), rounded(at(2), at(3))};
  }
};

template <>
struct Expander<quant::BlockBF16> {
  using Scales = NoScales;
  static void prepare(Scales&, const char*, std::int64_t) {}
  static Pair step(const Scales&, const char* w, std::int64_t j) {
    return {_mm512_loadu_si512(w + 128 * j), _mm512_loadu_si512(w + 128 * j + 64)};
  }
};

struct alignas(64) BlockScales {
  float d[16];
  float m[16];  // formats with a min only
};

// The first four bytes of up to sixteen blocks; every format begins with its scale.
template <class Block>
inline __m512i heads_of_blocks(const char* w, std::int64_t blocks) {
  const auto mask = static_cast<__mmask16>((1u << blocks) - 1);
  const __m512i offsets =
      _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_epi32(sizeof(Block)));
  return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, offsets, w, 1);
}

inline __m512 low_halves(__m512i words) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); }

template <class Block>
inline void prepare_block_scales(BlockScales& s, const char* w, std::int64_t n) {
  const __m512i heads = heads_of_blocks<Block>(w, n / 32);
  if constexpr (requires(const Block b) { b.d; }) {
    _mm512_store_ps(s.d, low_halves(heads));
    if constexpr (kHasBlockMin<Block>)
      _mm512_store_ps(s.m, low_halves(_mm512_srli_epi32(heads, 16)));
  } else {  // E8M0, see quant::e8m0_half_to_float
    const __m512i e = _mm512_and_si512(heads, _mm512_set1_epi32(255));
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __m512i subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    const __mmask16 small = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
    _mm512_store_si512(s.d, _mm512_mask_mov_epi32(normal, small, subnormal));
  }
}

template <class Block>
struct NibbleBlocks {
  using Scales = BlockScales;
  static void prepare(Scales& s, const char* w, std::int64_t n) {
    prepare_block_scales<Block>(s, w, n);
  }
  static __m512 values(const Scales& s, std::int64_t block) {
    const __m512 d = _mm512_set1_ps(s.d[block]);
    if constexpr (kHasBlockMin<Block>)
      return _mm512_fmadd_ps(nibble_values<Block>(), d, _mm512_set1_ps(s.m[block]));
    else
      return _mm512_mul_ps(nibble_values<Block>(), d);
  }
  static Pair step(const Scales& s, const char* w, std::int64_t j) {
    const auto* b = reinterpret_cast<const Block*>(w) + 2 * j;
    return looked_up_pair(nibble_words(b[0].qs), nibble_words(b[1].qs), values(s, 2 * j),
                          values(s, 2 * j + 1));
  }
};
template <>
struct Expander<quant::BlockQ4_0> : NibbleBlocks<quant::BlockQ4_0> {};
template <>
struct Expander<quant::BlockQ4_1> : NibbleBlocks<quant::BlockQ4_1> {};
template <>
struct Expander<quant::BlockIQ4_NL> : NibbleBlocks<quant::BlockIQ4_NL> {};
template <>
struct Expander<quant::BlockMXFP4> : NibbleBlocks<quant::BlockMXFP4> {};

// 32 codes of five bits: nibbles of words, and the fifth bits.
inline __m512i looked_up_32(__m512i words, __mmask32 fifth, __m512 low, __m512 high) {
  const __m512i nibbles = low_nibbles(words);
  const __m512i index = _mm512_mask_add_epi16(nibbles, fifth, nibbles, _mm512_set1_epi16(16));
  return _mm512_permutexvar_epi16(index, rounded(low, high));
}

template <class Block>
struct FiveBitBlocks {
  using Scales = BlockScales;
  static void prepare(Scales& s, const char* w, std::int64_t n) {
    prepare_block_scales<Block>(s, w, n);
  }
  static __m512i weights(const Scales& s, const Block& b, std::int64_t block) {
    std::uint32_t fifth;
    __builtin_memcpy(&fifth, b.qh, sizeof fifth);
    const __m512 d = _mm512_set1_ps(s.d[block]);
    if constexpr (kHasBlockMin<Block>) {
      const __m512 m = _mm512_set1_ps(s.m[block]);
      return looked_up_32(nibble_words(b.qs), fifth, _mm512_fmadd_ps(sixteen_from(0), d, m),
                          _mm512_fmadd_ps(sixteen_from(16), d, m));
    } else {
      return looked_up_32(nibble_words(b.qs), fifth, _mm512_mul_ps(sixteen_from(-16), d),
                          _mm512_mul_ps(sixteen_from(0), d));
    }
  }
  static Pair step(const Scales& s, const char* w, std::int64_t j) {
    const auto* b = reinterpret_cast<const Block*>(w) + 2 * j;
    return {weights(s, b[0], 2 * j), weights(s, b[1], 2 * j + 1)};
  }
};
template <>
struct Expander<quant::BlockQ5_0> : FiveBitBlocks<quant::BlockQ5_0> {};
template <>
struct Expander<quant::BlockQ5_1> : FiveBitBlocks<quant::BlockQ5_1> {};

template <>
struct Expander<quant::BlockQ8_0> {
  using Scales = BlockScales;
  static void prepare(Scales& s, const char* w, std::int64_t n) {
    prepare_block_scales<quant::BlockQ8_0>(s, w, n);
  }
  static __m512i weights(const quant::BlockQ8_0& b, float scale) {
    const __m512 d = _mm512_set1_ps(scale);
    return rounded(_mm512_mul_ps(floats_of_bytes(b.qs), d),
                   _mm512_mul_ps(floats_of_bytes(b.qs + 16), d));
  }
  static Pair step(const Scales& s, const char* w, std::int64_t j) {
    const auto* b = reinterpret_cast<const quant::BlockQ8_0*>(w) + 2 * j;
    return {weights(b[0], s.d[2 * j]), weights(b[1], s.d[2 * j + 1])};
  }
};

}  // namespace
}  // namespace rocmforge::cpu
