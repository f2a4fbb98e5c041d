// Expanders of the K-quants and IQ4_XS. A step is a quarter of a block.
#pragma once

#include "cpu/amx/expand.hpp"
#include "cpu/avx2/unpack_q8x256.hpp"

namespace rocmforge::cpu {
namespace {

// Of groups of 16 weights: weight = scale * q - min.
struct alignas(64) GroupFloats {
  float scale[kDepth / 16];
  float min[kDepth / 16];  // negated; formats with a min only
};

template <class Block>
inline void prepare_group_scales(GroupFloats& s, const char* w, std::int64_t n) {
  const auto* b = reinterpret_cast<const Block*>(w);
  for (std::int64_t i = 0; i < n / 256; ++i) {
    const GroupScales g = group_scales(b[i]);
    const auto scaled = [](__m256i groups, float by) {
      return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(groups)), _mm512_set1_ps(by));
    };
    _mm512_store_ps(s.scale + 16 * i, scaled(g.scales, _cvtsh_ss(b[i].d)));
    if constexpr (kOffsetKind<Block> == OffsetKind::kMin)
      _mm512_store_ps(s.min + 16 * i, scaled(g.mins, -_cvtsh_ss(b[i].dmin)));
  }
}

template <class Block>
struct GroupExpander {
  using Scales = GroupFloats;
  static void prepare(Scales& s, const char* w, std::int64_t n) {
    prepare_group_scales<Block>(s, w, n);
  }
  static const Block& block_of(const char* w, std::int64_t j) {
    return reinterpret_cast<const Block*>(w)[j / 4];
  }
};

template <>
struct Expander<quant::BlockQ4_K> : GroupExpander<quant::BlockQ4_K> {
  static __m512 values(const Scales& s, std::int64_t group) {
    return _mm512_fmadd_ps(sixteen_from(0), _mm512_set1_ps(s.scale[group]),
                           _mm512_set1_ps(s.min[group]));
  }
  static Pair step(const Scales& s, const char* w, std::int64_t j) {
    const __m512i bytes = _mm512_cvtepu8_epi16(load256(block_of(w, j).qs + 32 * (j % 4)));
    return looked_up_pair(bytes, _mm512_srli_epi16(bytes, 4), values(s, 4 * j),
                          values(s, 4 * j + 2));
  }
};

template <>
struct Expander<quant::BlockIQ4_XS> : GroupExpander<quant::BlockIQ4_XS> {
  static __m512 values(const Scales& s, std::int64_t group) {
    return _mm512_mul_ps(nibble_values<quant::BlockIQ4_XS>(), _mm512_set1_ps(s.scale[group]));
  }
  static Pair step(const Scales& s, const char* w, std::int64_t j) {
    const std::uint8_t* qs = block_of(w, j).qs + 32 * (j % 4);
    return looked_up_pair(nibble_words(qs), nibble_words(qs + 16), values(s, 4 * j),
                          values(s, 4 * j + 2));
  }
};

template <>
struct Expander<quant::BlockQ5_K> : GroupExpander<quant::BlockQ5_K> {
  static __m512i weights(const Scales& s, __m512i words, __mmask32 fifth, std::int64_t group) {
    const __m512 d = _mm512_set1_ps(s.scale[group]), m = _mm512_set1_ps(s.min[group]);
    return looked_up_32(words, fifth, _mm512_fmadd_ps(sixteen_from(0), d, m),
                        _mm512_fmadd_ps(sixteen_from(16), d, m));
  }
  static Pair step(const Scales& s, const char* w, std::int64_t j) {
    const quant::BlockQ5_K& b = block_of(w, j);
    const __m256i high = load256(b.qh);
    const __m512i bytes = _mm512_cvtepu8_epi16(load256(b.qs + 32 * (j % 4)));
    const auto fifth = [&](int bit) {
      return _mm256_test_epi8_mask(high, _mm256_set1_epi8(static_cast<char>(1 << bit)));
    };
    const int first = static_cast<int>(j % 4 * 2);
    return {weights(s, bytes, fifth(first), 4 * j),
            weights(s, _mm512_srli_epi16(bytes, 4), fifth(first + 1), 4 * j + 2)};
  }
};

// Q2_K and Q3_K look up 2 * q + (group of 16 within the 32 weights) + (16 in the second run).
//
// The sixteen values of a run: entry i is code i / 2 under the scale of group i % 2.
inline __m512 alternating(const float* two) {
  const __m128i pair = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(two));
  return _mm512_castsi512_ps(_mm512_broadcastq_epi64(pair));
}
inline __m512 codes_twice(int first) {
  const __m512i i = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return _mm512_cvtepi32_ps(_mm512_add_epi32(i, _mm512_set1_epi32(first)));
}

// Those indices, of 2-bit codes: the fields of 32 bytes from bit `shift`
// and from bit shift + 2 on.
inline Pair crumb_indices(const std::uint8_t* bytes, int shift) {
  const __m512i doubled = _mm512_slli_epi16(_mm512_cvtepu8_epi16(load256(bytes)), 1);
  const __m512i first =
      _mm512_srlv_epi16(doubled, _mm512_set1_epi16(static_cast<std::int16_t>(shift)));
  const __m512i groups = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(1), 1);
  const __m512i groups_plus_16 = _mm512_add_epi16(groups, _mm512_set1_epi16(16));
  const __m512i code = _mm512_set1_epi16(6);
  return {_mm512_ternarylogic_epi64(first, code, groups, 0xea),
          _mm512_ternarylogic_epi64(_mm512_srli_epi16(first, 2), code, groups_plus_16, 0xea)};
}

template <>
struct Expander<quant::BlockQ2_K> : GroupExpander<quant::BlockQ2_K> {
  static __m512 values(const Scales& s, std::int64_t group) {
    return _mm512_fmadd_ps(codes_twice(0), alternating(s.scale + group),
                           alternating(s.min + group));
  }
  static Pair step(const Scales& s, const char* w, std::int64_t j) {
    const std::int64_t half = j % 4 / 2;
    const Pair index = crumb_indices(block_of(w, j).qs + 32 * half, static_cast<int>(j % 2 * 4));
    const __m512i table = rounded(values(s, 4 * j), values(s, 4 * j + 2));
    return {_mm512_permutexvar_epi16(index.first, table),
            _mm512_permutexvar_epi16(index.second, table)};
  }
};

template <>
struct Expander<quant::BlockQ3_K> : GroupExpander<quant::BlockQ3_K> {
  static __m512 values(const Scales& s, std::int64_t group) {
    return _mm512_mul_ps(codes_twice(-4), alternating(s.scale + group));
  }
  static Pair step(const Scales& s, const char* w, std::int64_t j) {
    const quant::BlockQ3_K& b = block_of(w, j);
    const std::int64_t half = j % 4 / 2;
    const Pair index = crumb_indices(b.qs + 32 * half, static_cast<int>(j % 2 * 4));
    const __m256i high = load256(b.hmask);
    const auto with_high = [&](__m512i low, int bit) {
      const __mmask32 third =
          _mm256_test_epi8_mask(high, _mm256_set1_epi8(static_cast<char>(1 << bit)));
      return _mm512_mask_add_epi16(low, third, low, _mm512_set1_epi16(8));
    };
    const int bit = static_cast<int>(j % 4 * 2);
    const __m512i table = rounded(values(s, 4 * j), values(s, 4 * j + 2));
    return {_mm512_permutexvar_epi16(with_high(index.first, bit), table),
            _mm512_permutexvar_epi16(with_high(index.second, bit + 1), table)};
  }
};

template <>
struct Expander<quant::BlockQ6_K> : GroupExpander<quant::BlockQ6_K> {
  static Pair step(const Scales& s, const char* w, std::int64_t j) {
    const quant::BlockQ6_K& b = block_of(w, j);
    const std::int64_t half = j % 4 / 2;
    const __m512i shift = _mm512_set1_epi16(static_cast<std::int16_t>(j % 2 * 4));
    const __m512i two_in_second =
        _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
    const __m512i low = _mm512_srlv_epi16(_mm512_loadu_si512(b.ql + 64 * half), shift);
    const __m512i high = _mm512_srlv_epi16(_mm512_broadcast_i64x4(load256(b.qh + 32 * half)),
                                           _mm512_add_epi16(shift, two_in_second));
    // (high & 3) << 4 | (low & 15)
    const __m512i top = _mm512_and_si512(_mm512_slli_epi16(high, 4), _mm512_set1_epi8(0x30));
    const __m512i q = _mm512_sub_epi8(
        _mm512_ternarylogic_epi64(low, _mm512_set1_epi8(15), top, 0xea), _mm512_set1_epi8(32));
    alignas(64) std::int8_t bytes[64];
    _mm512_store_si512(bytes, q);
    const float* d = s.scale + 4 * j;
    const auto weights = [&](int i) {
      return _mm512_mul_ps(floats_of_bytes(bytes + 16 * i), _mm512_set1_ps(d[i]));
    };
    return {rounded(weights(0), weights(1)), rounded(weights(2), weights(3))};
  }
};

}  // namespace
}  // namespace rocmforge::cpu
