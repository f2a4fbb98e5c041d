// K-quants and IQ4_XS, decoded to Panel256 with stores as wide as the kernel's loads: a load that
// spans two younger stores waits for both to reach the cache.
#pragma once

#include "cpu/avx2/unpack_q8x256.hpp"

namespace rocmforge::cpu {
namespace {

// Bits of `bytes` shifted right by first and second (low and high 256 bits), masked.
template <int kFirst, int kSecond>
inline __m512i fields(__m512i bytes, int mask) {
  const __m512i shifts =
      _mm512_setr_epi64(kFirst, kFirst, kFirst, kFirst, kSecond, kSecond, kSecond, kSecond);
  return _mm512_and_si512(_mm512_srlv_epi64(bytes, shifts),
                          _mm512_set1_epi8(static_cast<char>(mask)));
}

inline __m512i twice(const void* bytes32) { return _mm512_broadcast_i64x4(load256(bytes32)); }

inline __m512i with_high(__m512i low, __m512i high, int shift) {
  return _mm512_or_si512(low, _mm512_slli_epi16(high, static_cast<unsigned>(shift)));
}

inline void store512(void* p, __m512i v) { _mm512_store_si512(p, v); }

inline void unpack_wide(std::uint8_t* q, const quant::BlockQ2_K& b) {
  for (int half = 0; half < 2; ++half) {
    const __m512i bytes = twice(b.qs + 32 * half);
    store512(q + 128 * half, fields<0, 2>(bytes, 3));
    store512(q + 128 * half + 64, fields<4, 6>(bytes, 3));
  }
}

inline void unpack_wide(std::uint8_t* q, const quant::BlockQ3_K& b) {
  const __m512i high = twice(b.hmask);
  const __m512i first = twice(b.qs), second = twice(b.qs + 32);
  store512(q, with_high(fields<0, 2>(first, 3), fields<0, 1>(high, 1), 2));
  store512(q + 64, with_high(fields<4, 6>(first, 3), fields<2, 3>(high, 1), 2));
  store512(q + 128, with_high(fields<0, 2>(second, 3), fields<4, 5>(high, 1), 2));
  store512(q + 192, with_high(fields<4, 6>(second, 3), fields<6, 7>(high, 1), 2));
}

inline void unpack_wide(std::uint8_t* q, const quant::BlockQ4_K& b) {
  for (int j = 0; j < 4; ++j) store512(q + 64 * j, fields<0, 4>(twice(b.qs + 32 * j), 15));
}

inline void unpack_wide(std::uint8_t* q, const quant::BlockQ5_K& b) {
  const __m512i high = twice(b.qh);
  unrolled<4>([&]<int j>() {
    store512(q + 64 * j, with_high(fields<0, 4>(twice(b.qs + 32 * j), 15),
                                   fields<2 * j, 2 * j + 1>(high, 1), 4));
  });
}

inline void unpack_wide(std::uint8_t* q, const quant::BlockQ6_K& b) {
  for (int half = 0; half < 2; ++half) {
    const __m512i low = _mm512_loadu_si512(b.ql + 64 * half);
    const __m512i high = twice(b.qh + 32 * half);
    store512(q + 128 * half, with_high(fields<0, 0>(low, 15), fields<0, 2>(high, 3), 4));
    store512(q + 128 * half + 64, with_high(fields<4, 4>(low, 15), fields<4, 6>(high, 3), 4));
  }
}

inline void unpack_wide(std::uint8_t* q, const quant::BlockIQ4_XS& b) {
  for (int j = 0; j < 4; ++j) {
    const __m256i pair = load256(b.qs + 32 * j);
    const __m512i runs = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3),
                                                  _mm512_castsi256_si512(pair));
    const __m512i codes = _mm512_and_si512(
        _mm512_srlv_epi64(runs, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4)), _mm512_set1_epi8(15));
    store512(q + 64 * j,
             _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(kIq4Values.values)), codes));
  }
}

template <class Block>
inline void unpack_wide(Panel256& p, const Block& b) {
  unpack_wide(p.q, b);
  const GroupScales s = group_scales(b);
  const __m512i low = _mm512_broadcast_i32x4(_mm256_castsi256_si128(s.scales));
  const __m512i high = _mm512_broadcast_i32x4(_mm256_extracti128_si256(s.scales, 1));
  const __m512i first_four = _mm512_setr_epi64(
      0x0100010001000100, 0x0100010001000100, 0x0302030203020302, 0x0302030203020302,
      0x0504050405040504, 0x0504050405040504, 0x0706070607060706, 0x0706070607060706);
  const __m512i last_four = _mm512_add_epi8(first_four, _mm512_set1_epi8(8));
  store512(p.scales[0], _mm512_shuffle_epi8(low, first_four));
  store512(p.scales[4], _mm512_shuffle_epi8(low, last_four));
  store512(p.scales[8], _mm512_shuffle_epi8(high, first_four));
  store512(p.scales[12], _mm512_shuffle_epi8(high, last_four));
  p.d = _cvtsh_ss(b.d);
  if constexpr (kOffsetKind<Block> == OffsetKind::kConstant) store256(p.offsets, s.mins);
  if constexpr (kOffsetKind<Block> == OffsetKind::kMin)
    _mm512_store_ps(p.mins, _mm512_mul_ps(_mm512_set1_ps(_cvtsh_ss(b.dmin)),
                                          _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(s.mins))));
}

}  // namespace
}  // namespace rocmforge::cpu
