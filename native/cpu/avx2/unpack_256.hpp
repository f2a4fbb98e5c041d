// K-quants and IQ4_XS, decoded to Unpacked256.
#pragma once

#include "cpu/avx2/unpack_32.hpp"

namespace rocmforge::cpu {
namespace {

// The three forms of Unpacked256.
enum class OffsetKind { kMin, kConstant, kSigned };

template <class Block>
constexpr OffsetKind kOffsetKind = OffsetKind::kMin;
template <>
constexpr OffsetKind kOffsetKind<quant::BlockQ3_K> = OffsetKind::kConstant;
template <>
constexpr OffsetKind kOffsetKind<quant::BlockQ6_K> = OffsetKind::kConstant;
template <>
constexpr OffsetKind kOffsetKind<quant::BlockIQ4_XS> = OffsetKind::kSigned;

template <class Block>
constexpr int kOffset = 0;
template <>
constexpr int kOffset<quant::BlockQ3_K> = 4;
template <>
constexpr int kOffset<quant::BlockQ6_K> = 32;

// Bits [shift, shift + width) of every byte, moved to bit `to`.
template <int kShift, int kWidth, int kTo = 0>
inline __m256i field(__m256i bytes) {
  const __m256i mask = _mm256_set1_epi8(((1 << kWidth) - 1) << kTo);
  if constexpr (kShift >= kTo)
    return _mm256_and_si256(_mm256_srli_epi16(bytes, kShift - kTo), mask);
  else
    return _mm256_and_si256(_mm256_slli_epi16(bytes, kTo - kShift), mask);
}

inline void unpack_quants(std::uint8_t* q, const quant::BlockQ2_K& b) {
  for (int half = 0; half < 2; ++half) {
    const __m256i bytes = load256(b.qs + 32 * half);
    unrolled<4>([&]<int j>() { store256(q + 128 * half + 32 * j, field<2 * j, 2>(bytes)); });
  }
}

inline void unpack_quants(std::uint8_t* q, const quant::BlockQ3_K& b) {
  const __m256i high = load256(b.hmask);
  unrolled<2>([&]<int half>() {
    const __m256i bytes = load256(b.qs + 32 * half);
    unrolled<4>([&]<int j>() {
      store256(q + 128 * half + 32 * j,
               _mm256_or_si256(field<2 * j, 2>(bytes), field<4 * half + j, 1, 2>(high)));
    });
  });
}

inline void unpack_quants(std::uint8_t* q, const quant::BlockQ4_K& b) {
  for (int j = 0; j < 4; ++j) {
    const __m256i bytes = load256(b.qs + 32 * j);
    store256(q + 64 * j, field<0, 4>(bytes));
    store256(q + 64 * j + 32, field<4, 4>(bytes));
  }
}

inline void unpack_quants(std::uint8_t* q, const quant::BlockQ5_K& b) {
  const __m256i high = load256(b.qh);
  unrolled<4>([&]<int j>() {
    const __m256i bytes = load256(b.qs + 32 * j);
    store256(q + 64 * j, _mm256_or_si256(field<0, 4>(bytes), field<2 * j, 1, 4>(high)));
    store256(q + 64 * j + 32, _mm256_or_si256(field<4, 4>(bytes), field<2 * j + 1, 1, 4>(high)));
  });
}

inline void unpack_quants(std::uint8_t* q, const quant::BlockQ6_K& b) {
  for (int half = 0; half < 2; ++half) {
    const __m256i high = load256(b.qh + 32 * half);
    const __m256i first = load256(b.ql + 64 * half), second = load256(b.ql + 64 * half + 32);
    std::uint8_t* to = q + 128 * half;
    store256(to, _mm256_or_si256(field<0, 4>(first), field<0, 2, 4>(high)));
    store256(to + 32, _mm256_or_si256(field<0, 4>(second), field<2, 2, 4>(high)));
    store256(to + 64, _mm256_or_si256(field<4, 4>(first), field<4, 2, 4>(high)));
    store256(to + 96, _mm256_or_si256(field<4, 4>(second), field<6, 2, 4>(high)));
  }
}

inline void unpack_quants(std::uint8_t* q, const quant::BlockIQ4_XS& b) {
  for (int j = 0; j < 8; ++j) store256(q + 32 * j, looked_up(kIq4Values, nibbles(b.qs + 16 * j)));
}

// Sixteen int16 each. `mins` are the format's mins, or -kOffset * scale.
struct GroupScales {
  __m256i scales;
  __m256i mins;
};

inline std::uint32_t load32(const std::uint8_t* p) {
  std::uint32_t v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline GroupScales group_scales(const quant::BlockQ2_K& b) {
  const __m256i bytes = _mm256_cvtepu8_epi16(load128(b.scales));
  return {_mm256_and_si256(bytes, _mm256_set1_epi16(15)), _mm256_srli_epi16(bytes, 4)};
}

// Eight 6-bit scales and mins in twelve bytes (layout at scale_6bit in quant/blocks.hpp).
inline GroupScales group_scales_6bit(const std::uint8_t* s) {
  const std::uint32_t a = load32(s), b = load32(s + 4), c = load32(s + 8);
  const std::uint64_t scales_high = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
  const std::uint64_t mins_high = (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030);
  const __m128i bytes =
      _mm_set_epi64x(static_cast<long long>((b & 0x3f3f3f3f) | mins_high << 32),
                     static_cast<long long>((a & 0x3f3f3f3f) | scales_high << 32));
  return {_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(bytes, bytes)),
          _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(bytes, bytes))};
}
inline GroupScales group_scales(const quant::BlockQ4_K& b) { return group_scales_6bit(b.scales); }
inline GroupScales group_scales(const quant::BlockQ5_K& b) { return group_scales_6bit(b.scales); }

inline GroupScales group_scales(const quant::BlockQ3_K& b) {
  const std::uint32_t a = load32(b.scales), c = load32(b.scales + 4), high = load32(b.scales + 8);
  const __m128i low =
      _mm_setr_epi32(static_cast<int>(a & 0x0f0f0f0f), static_cast<int>(c & 0x0f0f0f0f),
                     static_cast<int>(a >> 4 & 0x0f0f0f0f), static_cast<int>(c >> 4 & 0x0f0f0f0f));
  const __m128i top = _mm_setr_epi32(
      static_cast<int>(high << 4 & 0x30303030), static_cast<int>(high << 2 & 0x30303030),
      static_cast<int>(high & 0x30303030), static_cast<int>(high >> 2 & 0x30303030));
  const __m256i scales =
      _mm256_sub_epi16(_mm256_cvtepu8_epi16(_mm_or_si128(low, top)), _mm256_set1_epi16(32));
  return {scales, _mm256_mullo_epi16(scales, _mm256_set1_epi16(-kOffset<quant::BlockQ3_K>))};
}

inline GroupScales group_scales(const quant::BlockQ6_K& b) {
  const __m256i scales = _mm256_cvtepi8_epi16(load128(b.scales));
  return {scales, _mm256_mullo_epi16(scales, _mm256_set1_epi16(-kOffset<quant::BlockQ6_K>))};
}

inline GroupScales group_scales(const quant::BlockIQ4_XS& b) {
  const __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(load32(b.scales_l))),
                                        _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
  const __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32(b.scales_h),
                                         _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
  const __m256i six =
      _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)),
                      _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4));
  const __m256i scales = _mm256_sub_epi32(six, _mm256_set1_epi32(32));
  // Each of the eight serves two groups: its low 16 bits into both halves of the lane.
  const __m256i twice = _mm256_or_si256(_mm256_and_si256(scales, _mm256_set1_epi32(0xffff)),
                                        _mm256_slli_epi32(scales, 16));
  return {twice, _mm256_setzero_si256()};
}

template <class Block>
inline void unpack(Unpacked256& p, const Block& b) {
  unpack_quants(p.q, b);
  const GroupScales s = group_scales(b);
  store256(p.scales, s.scales);
  p.d = _cvtsh_ss(b.d);
  if constexpr (kOffsetKind<Block> == OffsetKind::kMin) {
    const __m256 dmin = _mm256_set1_ps(_cvtsh_ss(b.dmin));
    const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(s.mins));
    const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(s.mins, 1));
    _mm256_store_ps(p.mins, _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(low)));
    _mm256_store_ps(p.mins + 8, _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(high)));
  }
}

// The 256 weights, equal to quant::decode bit by bit.
template <class Block>
inline void decode(float* y, const Unpacked256& p) {
  for (int i = 0; i < 256; i += 8) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p.q + i));
    __m256i q = kOffsetKind<Block> == OffsetKind::kSigned ? _mm256_cvtepi8_epi32(bytes)
                                                          : _mm256_cvtepu8_epi32(bytes);
    q = _mm256_sub_epi32(q, _mm256_set1_epi32(kOffset<Block>));
    const float scale = p.d * static_cast<float>(p.scales[i / 16]);
    __m256 v = _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_cvtepi32_ps(q));
    if constexpr (kOffsetKind<Block> == OffsetKind::kMin)
      v = _mm256_sub_ps(v, _mm256_set1_ps(p.mins[i / 16]));
    _mm256_storeu_ps(y + i, v);
  }
}

}  // namespace
}  // namespace rocmforge::cpu
