// Formats with blocks of 32 weights, decoded to Unpacked32.
#pragma once

#include <immintrin.h>

#include "cpu/linear_rows.hpp"
#include "quant/blocks.hpp"

namespace rocmforge::cpu {
namespace {

inline __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store256(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

// The 32 nibbles of 16 bytes in weight order: low ones, then high ones.
inline __m256i nibbles(const std::uint8_t* qs) {
  const __m128i bytes = load128(qs);
  const __m256i both =
      _mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1);
  return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

// Byte i is 0xff if bit i of the four bytes is set, else 0.
inline __m256i bit_bytes(const std::uint8_t* bits) {
  int word;
  __builtin_memcpy(&word, bits, sizeof word);
  const __m256i byte_of =
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bit_of = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
  const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(word), byte_of);
  return _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit_of), bit_of);
}

struct alignas(16) ByteTable {
  std::int8_t values[16];
};

constexpr ByteTable table_of(int (*value)(int)) {
  ByteTable t{};
  for (int i = 0; i < 16; ++i) t.values[i] = static_cast<std::int8_t>(value(i));
  return t;
}

constexpr ByteTable kIq4Values = table_of(quant::iq4_value);
constexpr ByteTable kE2m1Doubled = table_of(quant::e2m1_doubled);

inline __m256i looked_up(const ByteTable& table, __m256i codes) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load128(table.values)), codes);
}

inline __m256i quants(const quant::BlockQ4_0& b) {
  return _mm256_sub_epi8(nibbles(b.qs), _mm256_set1_epi8(8));
}
inline __m256i quants(const quant::BlockQ4_1& b) { return nibbles(b.qs); }
inline __m256i quants(const quant::BlockQ5_0& b) {  // nibble - 16, plus 16 where the bit is set
  const __m256i lowered = _mm256_andnot_si256(bit_bytes(b.qh), _mm256_set1_epi8(-16));
  return _mm256_or_si256(nibbles(b.qs), lowered);
}
inline __m256i quants(const quant::BlockQ5_1& b) {
  const __m256i high = _mm256_and_si256(bit_bytes(b.qh), _mm256_set1_epi8(16));
  return _mm256_or_si256(nibbles(b.qs), high);
}
inline __m256i quants(const quant::BlockQ8_0& b) { return load256(b.qs); }
inline __m256i quants(const quant::BlockIQ4_NL& b) { return looked_up(kIq4Values, nibbles(b.qs)); }
inline __m256i quants(const quant::BlockMXFP4& b) { return looked_up(kE2m1Doubled, nibbles(b.qs)); }

// The binary16 `member` of eight blocks, gathered with scalar shifts: inserting words one by one
// would take the shuffle port, which the decode needs.
template <class Block, class Member>
inline __m256 halves(const Block* b, Member member) {
  auto four = [&](int i) {
    return static_cast<long long>(
        std::uint64_t{member(b[i])} | std::uint64_t{member(b[i + 1])} << 16 |
        std::uint64_t{member(b[i + 2])} << 32 | std::uint64_t{member(b[i + 3])} << 48);
  };
  return _mm256_cvtph_ps(_mm_set_epi64x(four(4), four(0)));
}

// The scales of eight blocks.
template <class Block>
inline __m256 scales(const Block* b) {
  if constexpr (requires { b->d; }) {
    return halves(b, [](const Block& block) { return block.d; });
  } else {
    const __m256i e = _mm256_setr_epi32(b[0].e, b[1].e, b[2].e, b[3].e, b[4].e, b[5].e, b[6].e,
                                        b[7].e);  // quant::e8m0_half_to_float
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    const __m256i is_normal = _mm256_cmpgt_epi32(e, _mm256_set1_epi32(1));
    return _mm256_castsi256_ps(_mm256_blendv_epi8(subnormal, normal, is_normal));
  }
}

template <class Block>
inline float scale(const Block& b) {
  if constexpr (requires { b.d; })
    return _cvtsh_ss(b.d);
  else
    return quant::e8m0_half_to_float(b.e);
}

template <class Block>
constexpr bool kHasBlockMin = requires(Block b) { b.m; };

template <class Block>
inline __m256 block_mins(const Block* b) {
  return halves(b, [](const Block& block) { return block.m; });
}

// Decodes n (a multiple of 32, at most 256) weights; the rest of the panel becomes zero.
template <class Block>
inline void unpack(Unpacked32& p, const Block* b, std::int64_t n) {
  if (n == kChunk) {
    for (int j = 0; j < 8; ++j) store256(p.q + 32 * j, quants(b[j]));
    _mm256_store_ps(p.d, scales(b));
    if constexpr (kHasBlockMin<Block>) _mm256_store_ps(p.m, block_mins(b));
    return;
  }
  p = Unpacked32{};
  for (std::int64_t j = 0; j < n / 32; ++j) {
    store256(p.q + 32 * j, quants(b[j]));
    p.d[j] = scale(b[j]);
    if constexpr (kHasBlockMin<Block>) p.m[j] = _cvtsh_ss(b[j].m);
  }
}

// The same as n floats, equal to quant::decode bit by bit.
template <class Block>
inline void decode(float* y, const Unpacked32& p, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 8) {
    const __m128i q = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p.q + i));
    __m256 v =
        _mm256_mul_ps(_mm256_set1_ps(p.d[i / 32]), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)));
    if constexpr (kHasBlockMin<Block>) v = _mm256_add_ps(v, _mm256_set1_ps(p.m[i / 32]));
    _mm256_storeu_ps(y + i, v);
  }
}

}  // namespace
}  // namespace rocmforge::cpu
