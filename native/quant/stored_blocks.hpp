// Layouts and decode of the formats of stored_formats.def (ggml-common.h and ggml-quants.c of
// https://github.com/ggml-org/ggml). A weight is factor(b, i) * quant(b, i), exact in binary32: at
// most 11 bits of a scale, 5 of its multiple and 6 of a coordinate.
#pragma once

#include <bit>
#include <cstdint>

#include "quant/blocks.hpp"
#include "quant/grids.hpp"

namespace rocmforge::quant {

#define RF_BLOCK struct [[gnu::packed]]

inline unsigned u16_at(const std::uint8_t* p) { return p[0] | static_cast<unsigned>(p[1]) << 8; }
inline std::uint32_t u32_at(const std::uint8_t* p) {
  return u16_at(p) | static_cast<std::uint32_t>(u16_at(p + 2)) << 16;
}

inline int iq2_value(unsigned entry, int j) {
  constexpr std::int8_t kValues[4] = {8, 25, 43, 0};
  return kValues[entry >> (2 * j) & 3];
}
// Seven signs are kept and the eighth makes their number even.
inline bool is_negative(unsigned signs, int j) {
  return j < 7 ? signs >> j & 1 : std::popcount(signs & 127u) & 1;
}
inline int with_sign(int value, bool negative) { return negative ? -value : value; }
// Nibble n of a row of them, the low one first.
inline int nibble_at(const std::uint8_t* p, int n) { return p[n / 2] >> (n % 2 * 4) & 15; }

RF_BLOCK BlockIQ2_XXS {
  std::uint16_t d;  // f16
  // For 32 weights four entries, then four times seven signs and the scale in 32 bits.
  std::uint8_t qs[64];
};
inline int quant(const BlockIQ2_XXS& b, int i) {
  const std::uint8_t* group = b.qs + i / 32 * 8;
  const int part = i % 32 / 8;
  return with_sign(iq2_value(kGridIq2Xxs[group[part]], i % 8),
                   is_negative(u32_at(group + 4) >> (7 * part), i % 8));
}
inline float factor(const BlockIQ2_XXS& b, int i) {
  const auto scale = static_cast<float>(u32_at(b.qs + i / 32 * 8 + 4) >> 28);
  return half_to_float(b.d) * (0.5f + scale) * 0.25f;
}

RF_BLOCK BlockIQ2_XS {
  std::uint16_t d;         // f16
  std::uint8_t qs[64];     // for 8 weights 9 bits of an entry, then seven signs
  std::uint8_t scales[8];  // a nibble for 16 weights
};
inline int quant(const BlockIQ2_XS& b, int i) {
  const unsigned code = u16_at(b.qs + i / 8 * 2);
  return with_sign(iq2_value(kGridIq2Xs[code & 511], i % 8), is_negative(code >> 9, i % 8));
}
inline float factor(const BlockIQ2_XS& b, int i) {
  return half_to_float(b.d) * (0.5f + static_cast<float>(nibble_at(b.scales, i / 16))) * 0.25f;
}

RF_BLOCK BlockIQ2_S {
  std::uint16_t d;      // f16
  std::uint8_t qs[32];  // low 8 bits of the entry of 8 weights
  std::uint8_t signs[32];
  std::uint8_t qh[8];      // high 2 bits of entries
  std::uint8_t scales[8];  // a nibble for 16 weights
};
inline int quant(const BlockIQ2_S& b, int i) {
  const unsigned entry = b.qs[i / 8] | (b.qh[i / 32] >> (i % 32 / 8 * 2) & 3u) << 8;
  return with_sign(iq2_value(kGridIq2S[entry], i % 8), b.signs[i / 8] >> (i % 8) & 1);
}
inline float factor(const BlockIQ2_S& b, int i) {
  return half_to_float(b.d) * (0.5f + static_cast<float>(nibble_at(b.scales, i / 16))) * 0.25f;
}

RF_BLOCK BlockIQ3_XXS {
  std::uint16_t d;          // f16
  std::uint8_t qs[64];      // the entry of 4 weights
  std::uint8_t scales[32];  // for 32 weights four times seven signs and the scale in 32 bits
};
inline int quant(const BlockIQ3_XXS& b, int i) {
  constexpr std::int8_t kValues[8] = {4, 12, 20, 28, 36, 44, 52, 62};
  const std::uint32_t signs = u32_at(b.scales + i / 32 * 4) >> (7 * (i % 32 / 8));
  return with_sign(kValues[kGridIq3Xxs[b.qs[i / 4]] >> (3 * (i % 4)) & 7],
                   is_negative(signs, i % 8));
}
inline float factor(const BlockIQ3_XXS& b, int i) {
  const auto scale = static_cast<float>(u32_at(b.scales + i / 32 * 4) >> 28);
  return half_to_float(b.d) * (0.5f + scale) * 0.5f;
}

RF_BLOCK BlockIQ3_S {
  std::uint16_t d;      // f16
  std::uint8_t qs[64];  // low 8 bits of the entry of 4 weights
  std::uint8_t qh[8];   // their ninth
  std::uint8_t signs[32];
  std::uint8_t scales[4];  // a nibble for 32 weights
};
inline int quant(const BlockIQ3_S& b, int i) {
  const unsigned entry = b.qs[i / 4] | (b.qh[i / 32] >> (i % 32 / 4) & 1u) << 8;
  const int value = 2 * (kGridIq3S[entry] >> (3 * (i % 4)) & 7) + 1;
  return with_sign(value, b.signs[i / 8] >> (i % 8) & 1);
}
inline float factor(const BlockIQ3_S& b, int i) {
  return half_to_float(b.d) * static_cast<float>(1 + 2 * nibble_at(b.scales, i / 32));
}

// IQ1: eight times a coordinate of the grid, and 1 more or less; the factor is an eighth.
inline int iq1_value(unsigned entry, int j, bool lower) {
  const int coordinate = static_cast<int>(kGridIq1S[entry] >> (2 * j) & 3) - 1;
  return 8 * coordinate + (lower ? -1 : 1);
}

RF_BLOCK BlockIQ1_S {
  std::uint16_t d;      // f16
  std::uint8_t qs[32];  // low 8 bits of the entry of 8 weights
  std::uint8_t qh[16];  // for 32 weights four times 3 high bits, 3 of the scale, 1: lower
};
inline int quant(const BlockIQ1_S& b, int i) {
  const unsigned high = u16_at(b.qh + i / 32 * 2);
  return iq1_value(b.qs[i / 8] | (high >> (3 * (i % 32 / 8)) & 7) << 8, i % 8, high >> 15);
}
inline float factor(const BlockIQ1_S& b, int i) {
  const unsigned scale = u16_at(b.qh + i / 32 * 2) >> 12 & 7;
  return half_to_float(b.d) * static_cast<float>(2 * scale + 1) * 0.125f;
}

RF_BLOCK BlockIQ1_M {
  std::uint8_t qs[32];     // low 8 bits of the entry of 8 weights
  std::uint8_t qh[16];     // a nibble for 8 weights: 3 high bits, 1: lower
  std::uint8_t scales[8];  // four times four scales of 3 bits for 16 weights and a quarter of d
};
inline int quant(const BlockIQ1_M& b, int i) {
  const auto high = static_cast<unsigned>(nibble_at(b.qh, i / 8));
  return iq1_value(b.qs[i / 8] | (high & 7) << 8, i % 8, high >> 3);
}
inline float factor(const BlockIQ1_M& b, int i) {
  unsigned d = 0;
  for (int n = 0; n < 4; ++n) d |= u16_at(b.scales + 2 * n) >> 12 << (4 * n);
  const unsigned scale = u16_at(b.scales + i / 64 * 2) >> (3 * (i % 64 / 16)) & 7;
  return half_to_float(static_cast<std::uint16_t>(d)) * static_cast<float>(2 * scale + 1) * 0.125f;
}

// Three values, five to a byte: multiplied by a power of three the byte is a fraction of 256 whose
// first digit to the base three is the value.
RF_BLOCK BlockTQ1_0 {
  std::uint8_t qs[48];  // 32 bytes of weights 0 to 159, 16 of 160 to 239
  std::uint8_t qh[4];   // weights 240 to 255, four to a byte
  std::uint16_t d;      // f16
};
inline int quant(const BlockTQ1_0& b, int i) {
  constexpr std::uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  const int byte = i < 160 ? b.qs[i % 32] : i < 240 ? b.qs[32 + i % 16] : b.qh[i % 4];
  const int digit = i < 160 ? i / 32 : i < 240 ? (i - 160) / 16 : (i - 240) / 4;
  return ((byte * kPowers[digit] & 255) * 3 >> 8) - 1;
}
inline float factor(const BlockTQ1_0& b, int) { return half_to_float(b.d); }

RF_BLOCK BlockTQ2_0 {
  std::uint8_t qs[64];
  std::uint16_t d;  // f16
};
inline int quant(const BlockTQ2_0& b, int i) { return crumb(b.qs, i) - 1; }
inline float factor(const BlockTQ2_0& b, int) { return half_to_float(b.d); }

RF_BLOCK BlockNVFP4 {
  std::uint8_t scales[4];  // E4M3 without a sign, for 16 weights
  std::uint8_t qs[32];     // weights i and i + 8 of 16 share a byte
};
inline int quant(const BlockNVFP4& b, int i) {
  const std::uint8_t byte = b.qs[i / 16 * 8 + i % 8];
  return e2m1_doubled(i % 16 < 8 ? byte & 15 : byte >> 4);
}
// Half of the scale, as weights are doubled; NaN (0x7f) is 0, as in ggml.
inline float factor(const BlockNVFP4& b, int i) {
  const unsigned scale = b.scales[i / 16];
  if (scale == 0x7f) return 0.0f;
  const unsigned exponent = scale >> 3 & 15, mantissa = scale & 7;
  if (exponent == 0) return static_cast<float>(mantissa) * 0x1p-10f;
  return float_of_bits((exponent + 119) << 23 | mantissa << 20);
}

#undef RF_BLOCK

}  // namespace rocmforge::quant
