// Formats with blocks of 32 weights, decoded for dpbusd: two blocks are a vector of 64 weights.
#pragma once

#include "cpu/avx2/unpack_q8x32.hpp"

namespace rocmforge::cpu {
namespace {

constexpr int kSteps = static_cast<int>(kChunk / 64);

// What is added to a format's weights to make them unsigned.
template <class Block>
constexpr int kBias = 128;
template <>
constexpr int kBias<quant::BlockQ4_0> = 8;
template <>
constexpr int kBias<quant::BlockQ5_0> = 16;
template <>
constexpr int kBias<quant::BlockQ4_1> = 0;
template <>
constexpr int kBias<quant::BlockQ5_1> = 0;

// 256 weights of a row. Only the steps that hold weights are written.
struct StepPanel {
  __m512i w[kSteps];  // biased
  __m512 d[kSteps];   // scale of the lane's block
  __m512 m[kSteps];   // formats with a min only
};

inline __m512i nibbles_of_two(const std::uint8_t* first, const std::uint8_t* second) {
  const __m512i bytes =
      _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_broadcastsi128_si256(load128(first))),
                         _mm256_broadcastsi128_si256(load128(second)), 1);
  const __m512i shifted = _mm512_srlv_epi64(bytes, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
  return _mm512_and_si512(shifted, _mm512_set1_epi8(15));
}

constexpr ByteTable kBiasedIq4Values = table_of([](int i) { return quant::iq4_value(i) + 128; });
constexpr ByteTable kBiasedE2m1 = table_of([](int i) { return quant::e2m1_doubled(i) + 128; });

inline __m512i looked_up(const ByteTable& table, __m512i codes) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(table.values)), codes);
}

template <class Block>
inline __mmask64 high_bits(const Block* b) {
  std::uint32_t first, second;
  __builtin_memcpy(&first, b[0].qh, sizeof first);
  __builtin_memcpy(&second, b[1].qh, sizeof second);
  return static_cast<std::uint64_t>(second) << 32 | first;
}

inline __m512i biased_of_two(const quant::BlockQ4_0* b) { return nibbles_of_two(b[0].qs, b[1].qs); }
inline __m512i biased_of_two(const quant::BlockQ4_1* b) { return nibbles_of_two(b[0].qs, b[1].qs); }
template <class Block>
inline __m512i five_bits_of_two(const Block* b) {
  const __m512i q = nibbles_of_two(b[0].qs, b[1].qs);
  return _mm512_mask_add_epi8(q, high_bits(b), q, _mm512_set1_epi8(16));
}
inline __m512i biased_of_two(const quant::BlockQ5_0* b) { return five_bits_of_two(b); }
inline __m512i biased_of_two(const quant::BlockQ5_1* b) { return five_bits_of_two(b); }
inline __m512i biased_of_two(const quant::BlockQ8_0* b) {
  const __m512i q =
      _mm512_inserti64x4(_mm512_castsi256_si512(load256(b[0].qs)), load256(b[1].qs), 1);
  return _mm512_xor_si512(q, _mm512_set1_epi8(-128));
}
inline __m512i biased_of_two(const quant::BlockIQ4_NL* b) {
  return looked_up(kBiasedIq4Values, nibbles_of_two(b[0].qs, b[1].qs));
}
inline __m512i biased_of_two(const quant::BlockMXFP4* b) {
  return looked_up(kBiasedE2m1, nibbles_of_two(b[0].qs, b[1].qs));
}

// Entries 2 * step and 2 * step + 1 of eight, in eight lanes each.
inline __m512 spread(__m256 eight, int step) {
  const __m512i index = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  return _mm512_permutexvar_ps(_mm512_add_epi32(index, _mm512_set1_epi32(2 * step)),
                               _mm512_castps256_ps512(eight));
}

inline __m512 spread(float first, float second) {
  return _mm512_mask_mov_ps(_mm512_set1_ps(first), 0xff00, _mm512_set1_ps(second));
}

// Decodes n weights: a multiple of 32, at most 256. After an odd number of blocks the second half
// of the last step is zero.
template <class Block>
inline void unpack(StepPanel& p, const Block* b, std::int64_t n) {
  if (n == kChunk) {
    const __m256 d = scales(b);
    for (int step = 0; step < kSteps; ++step) {
      p.w[step] = biased_of_two(b + 2 * step);
      p.d[step] = spread(d, step);
    }
    if constexpr (kHasBlockMin<Block>) {
      const __m256 m = block_mins(b);
      for (int step = 0; step < kSteps; ++step) p.m[step] = spread(m, step);
    }
    return;
  }
  for (int step = 0; 64 * step < n; ++step) {
    const Block* first = b + 2 * step;
    if (64 * step + 32 < n) {
      p.w[step] = biased_of_two(first);
      p.d[step] = spread(scale(first[0]), scale(first[1]));
      if constexpr (kHasBlockMin<Block>)
        p.m[step] = spread(_cvtsh_ss(first[0].m), _cvtsh_ss(first[1].m));
    } else {
      const __m256i biased =
          _mm256_add_epi8(quants(first[0]), _mm256_set1_epi8(static_cast<char>(kBias<Block>)));
      p.w[step] = _mm512_zextsi256_si512(biased);
      p.d[step] = spread(scale(first[0]), 0.0f);
      if constexpr (kHasBlockMin<Block>) p.m[step] = spread(_cvtsh_ss(first[0].m), 0.0f);
    }
  }
}

}  // namespace
}  // namespace rocmforge::cpu
