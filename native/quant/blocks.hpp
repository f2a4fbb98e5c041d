// On-disk block layouts (ggml-common.h of https://github.com/ggml-org/ggml) and, per weight, the
// scalar decode that every other kernel is tested against. Plain data and free functions only:
// CPU ISA units and GPU units include this.
//
// The structs are packed so that any address is valid: GGUF lets a file ask for alignment 1.
//
// quant(b, i) is the integer of weight i with its offset applied; decode(b, i) the weight. The
// integer always fits int8. K-quants scale their integers in groups of 16: group_scale(b, g) and,
// where the format has one, group_min(b, g).
#pragma once

#include <cstdint>

#include "core/hd.hpp"
#include "quant/small_floats.hpp"

namespace rocmforge::quant {

#define RF_BLOCK struct [[gnu::packed]]

RF_BLOCK BlockF32 { float value; };
RF_BLOCK BlockF16 { std::uint16_t value; };
RF_BLOCK BlockBF16 { std::uint16_t value; };

RF_HD float decode(const BlockF32& b, int) { return b.value; }
RF_HD float decode(const BlockF16& b, int) { return half_to_float(b.value); }
RF_HD float decode(const BlockBF16& b, int) { return bf16_to_float(b.value); }

// Weights i and i + 16 of a 32-weight block share byte i: low nibble and high nibble.
RF_HD int nibble(const std::uint8_t* qs, int i) { return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4; }

RF_HD int bit(const std::uint8_t* bits, int i) { return bits[i / 8] >> (i % 8) & 1; }

RF_BLOCK BlockQ4_0 {
  std::uint16_t d;  // f16
  std::uint8_t qs[16];
};
RF_HD int quant(const BlockQ4_0& b, int i) { return nibble(b.qs, i) - 8; }
RF_HD float decode(const BlockQ4_0& b, int i) {
  return half_to_float(b.d) * static_cast<float>(quant(b, i));
}

RF_BLOCK BlockQ4_1 {
  std::uint16_t d;  // f16
  std::uint16_t m;  // f16
  std::uint8_t qs[16];
};
RF_HD int quant(const BlockQ4_1& b, int i) { return nibble(b.qs, i); }
RF_HD float decode(const BlockQ4_1& b, int i) {
  return half_to_float(b.d) * static_cast<float>(quant(b, i)) + half_to_float(b.m);
}

RF_BLOCK BlockQ5_0 {
  std::uint16_t d;     // f16
  std::uint8_t qh[4];  // bit i is bit 4 of weight i
  std::uint8_t qs[16];
};
RF_HD int quant(const BlockQ5_0& b, int i) { return (nibble(b.qs, i) | bit(b.qh, i) << 4) - 16; }
RF_HD float decode(const BlockQ5_0& b, int i) {
  return half_to_float(b.d) * static_cast<float>(quant(b, i));
}

RF_BLOCK BlockQ5_1 {
  std::uint16_t d;     // f16
  std::uint16_t m;     // f16
  std::uint8_t qh[4];  // bit i is bit 4 of weight i
  std::uint8_t qs[16];
};
RF_HD int quant(const BlockQ5_1& b, int i) { return nibble(b.qs, i) | bit(b.qh, i) << 4; }
RF_HD float decode(const BlockQ5_1& b, int i) {
  return half_to_float(b.d) * static_cast<float>(quant(b, i)) + half_to_float(b.m);
}

RF_BLOCK BlockQ8_0 {
  std::uint16_t d;  // f16
  std::int8_t qs[32];
};
RF_HD int quant(const BlockQ8_0& b, int i) { return b.qs[i]; }
RF_HD float decode(const BlockQ8_0& b, int i) {
  return half_to_float(b.d) * static_cast<float>(quant(b, i));
}

RF_HD constexpr int iq4_value(int code) {
  constexpr std::int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};
  return kValues[code];
}

RF_BLOCK BlockIQ4_NL {
  std::uint16_t d;  // f16
  std::uint8_t qs[16];
};
RF_HD int quant(const BlockIQ4_NL& b, int i) { return iq4_value(nibble(b.qs, i)); }
RF_HD float decode(const BlockIQ4_NL& b, int i) {
  return half_to_float(b.d) * static_cast<float>(quant(b, i));
}

// Twice the E2M1 value of a code, an integer.
RF_HD constexpr int e2m1_doubled(int code) {
  constexpr std::int8_t kValues[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  return kValues[code];
}

RF_BLOCK BlockMXFP4 {
  std::uint8_t e;  // E8M0
  std::uint8_t qs[16];
};
RF_HD int quant(const BlockMXFP4& b, int i) { return e2m1_doubled(nibble(b.qs, i)); }
RF_HD float decode(const BlockMXFP4& b, int i) {
  return e8m0_half_to_float(b.e) * static_cast<float>(quant(b, i));
}

// K-quants: 256 weights a block. Weights i, i + 32, i + 64 and i + 96 of a half share a byte of
// 2-bit fields; i and i + 32 of a quarter share a byte of nibbles.
RF_HD int crumb(const std::uint8_t* qs, int i) {
  return qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}
RF_HD int nibble_k(const std::uint8_t* qs, int i) {
  return qs[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
}

RF_BLOCK BlockQ2_K {
  std::uint8_t scales[16];  // group g: scale in the low nibble, min in the high one
  std::uint8_t qs[64];
  std::uint16_t d;     // f16
  std::uint16_t dmin;  // f16
};
RF_HD int quant(const BlockQ2_K& b, int i) { return crumb(b.qs, i); }
RF_HD int group_scale(const BlockQ2_K& b, int g) { return b.scales[g] & 15; }
RF_HD int group_min(const BlockQ2_K& b, int g) { return b.scales[g] >> 4; }

RF_BLOCK BlockQ3_K {
  std::uint8_t hmask[32];  // bit i / 32 of byte i % 32 set: weight i is not lowered by 4
  std::uint8_t qs[64];
  std::uint8_t scales[12];  // low nibbles of 16 scales in bytes 0..7, bits 4 and 5 in bytes 8..11
  std::uint16_t d;          // f16
};
RF_HD int quant(const BlockQ3_K& b, int i) {
  return crumb(b.qs, i) - ((b.hmask[i % 32] >> (i / 32) & 1) ? 0 : 4);
}
RF_HD int group_scale(const BlockQ3_K& b, int g) {
  const int low = b.scales[g % 8] >> (g / 8 * 4) & 15;
  const int high = b.scales[8 + g % 4] >> (g / 4 * 2) & 3;
  return (low | high << 4) - 32;
}

// Q4_K and Q5_K: eight 6-bit scales and mins. Scales 0..3 are the low 6 bits of bytes 0..3, mins
// 0..3 those of bytes 4..7; scales 4..7 and mins 4..7 have their low 4 bits in the nibbles of
// bytes 8..11 and their high 2 bits above the first four.
RF_HD int scale_6bit(const std::uint8_t* s, int j) {
  return j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6 << 4);
}
RF_HD int min_6bit(const std::uint8_t* s, int j) {
  return j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6 << 4);
}

RF_BLOCK BlockQ4_K {
  std::uint16_t d;     // f16
  std::uint16_t dmin;  // f16
  std::uint8_t scales[12];
  std::uint8_t qs[128];
};
RF_HD int quant(const BlockQ4_K& b, int i) { return nibble_k(b.qs, i); }
RF_HD int group_scale(const BlockQ4_K& b, int g) { return scale_6bit(b.scales, g / 2); }
RF_HD int group_min(const BlockQ4_K& b, int g) { return min_6bit(b.scales, g / 2); }

RF_BLOCK BlockQ5_K {
  std::uint16_t d;     // f16
  std::uint16_t dmin;  // f16
  std::uint8_t scales[12];
  std::uint8_t qh[32];  // bit i / 32 of byte i % 32 is bit 4 of weight i
  std::uint8_t qs[128];
};
RF_HD int quant(const BlockQ5_K& b, int i) {
  return nibble_k(b.qs, i) | (b.qh[i % 32] >> (i / 32) & 1) << 4;
}
RF_HD int group_scale(const BlockQ5_K& b, int g) { return scale_6bit(b.scales, g / 2); }
RF_HD int group_min(const BlockQ5_K& b, int g) { return min_6bit(b.scales, g / 2); }

RF_BLOCK BlockQ6_K {
  std::uint8_t ql[128];  // low 4 bits: weights i and i + 64 of a half share a byte
  std::uint8_t qh[64];   // high 2 bits, as crumbs
  std::int8_t scales[16];
  std::uint16_t d;  // f16
};
RF_HD int quant(const BlockQ6_K& b, int i) {
  const int low = b.ql[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
  return (low | crumb(b.qh, i) << 4) - 32;
}
RF_HD int group_scale(const BlockQ6_K& b, int g) { return b.scales[g]; }

RF_BLOCK BlockIQ4_XS {
  std::uint16_t d;           // f16
  std::uint16_t scales_h;    // bits 4 and 5 of eight scales
  std::uint8_t scales_l[4];  // low nibbles of eight scales
  std::uint8_t qs[128];      // eight runs of 16 bytes, each as in a 32-weight block
};
RF_HD int quant(const BlockIQ4_XS& b, int i) {
  return iq4_value(nibble(b.qs + i / 32 * 16, i % 32));
}
RF_HD int group_scale(const BlockIQ4_XS& b, int g) {
  const int low = b.scales_l[g / 4] >> (g / 2 % 2 * 4) & 15;
  return (low | (b.scales_h >> (g / 2 * 2) & 3) << 4) - 32;
}

// Any K-quant: (d * scale) * q - dmin * min, rounded after each operation.
template <class Block>
RF_HD float decode(const Block& b, int i) {
  const float scale = half_to_float(b.d) * static_cast<float>(group_scale(b, i / 16));
  const float scaled = scale * static_cast<float>(quant(b, i));
  if constexpr (requires { group_min(b, 0); })
    return scaled - half_to_float(b.dmin) * static_cast<float>(group_min(b, i / 16));
  else
    return scaled;
}

template <class Block>
struct BlockTraits;
#define RF_FORMAT(name, id, weights, bytes, Block, activation)                     \
  static_assert(sizeof(Block) == (bytes) && alignof(Block) == 1, #name " layout"); \
  template <>                                                                      \
  struct BlockTraits<Block> {                                                      \
    static constexpr int kWeights = weights;                                       \
  };
#include "quant/formats.def"
#undef RF_FORMAT
#undef RF_BLOCK

}  // namespace rocmforge::quant
