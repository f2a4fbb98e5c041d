// Weights of every format in float64, from the bytes of a block: the layouts as ggml-common.h of
// https://github.com/ggml-org/ggml documents them, written without the product's headers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace rocmforge::test {

struct Weight {
  double value;
  double magnitude;  // where a min counts apart from the quant it belongs to
};

inline double half_at(const std::uint8_t* p) {
  const int bits = p[0] | p[1] << 8, exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = bits >> 15 ? -1.0 : 1.0;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24));
}

inline double float_at(std::uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

inline Weight scaled(double scale, int quant, double min = 0.0) {
  return {scale * quant - min, std::abs(scale * quant) + std::abs(min)};
}

// Of 32 weights in 16 bytes: the low nibbles, then the high ones.
inline int nibble_of(const std::uint8_t* p, int i) { return p[i % 16] >> (i / 16 * 4) & 15; }
inline int bit_of(const std::uint8_t* p, int i) { return p[i / 8] >> (i % 8) & 1; }

inline int iq4(int code) {
  const int magnitudes[16] = {127, 104, 83, 65, 49, 35, 22, 10, 1, 13, 25, 38, 53, 69, 89, 113};
  return code < 8 ? -magnitudes[code] : magnitudes[code];
}

// The pair of 6-bit numbers of group g in the twelve bytes of Q4_K and Q5_K.
inline int six_bits(const std::uint8_t* p, int g, bool min) {
  if (g < 4) return p[g + 4 * min] % 64;
  return (p[g + 4] >> 4 * min & 15) + (p[g - 4 + 4 * min] >> 6) * 16;
}

// Weight i of the block at b of the format of that name.
inline Weight reference_weight(std::string_view name, const std::uint8_t* b, int i) {
  // K-quants: halves of 128, each four runs of 32.
  const int half = i / 128, run = i / 32 % 4, at = i % 32, sixteen = i / 16;
  if (name == "F32" || name == "F16" || name == "BF16") {
    const std::uint32_t low = b[0] | b[1] << 8;
    const double v = name == "F16"    ? half_at(b)
                     : name == "BF16" ? float_at(low << 16)
                                      : float_at(low | b[2] << 16 | std::uint32_t{b[3]} << 24);
    return {v, std::abs(v)};
  }
  if (name == "Q4_0") return scaled(half_at(b), nibble_of(b + 2, i) - 8);
  if (name == "Q4_1") return scaled(half_at(b), nibble_of(b + 4, i), -half_at(b + 2));
  if (name == "Q5_0") return scaled(half_at(b), nibble_of(b + 6, i) + 16 * bit_of(b + 2, i) - 16);
  if (name == "Q5_1")
    return scaled(half_at(b), nibble_of(b + 8, i) + 16 * bit_of(b + 4, i), -half_at(b + 2));
  if (name == "Q8_0") return scaled(half_at(b), static_cast<std::int8_t>(b[2 + i]));
  if (name == "IQ4_NL") return scaled(half_at(b), iq4(nibble_of(b + 2, i)));
  if (name == "MXFP4") {
    const int code = nibble_of(b + 1, i), exponent = code >> 1 & 3;
    const int twice = exponent ? (2 + code % 2) << (exponent - 1) : code % 2;
    return scaled(std::ldexp(0.5, b[0] - 127), code < 8 ? twice : -twice);
  }
  if (name == "Q2_K") {
    const int quant = b[16 + 32 * half + at] >> 2 * run & 3;
    return scaled(half_at(b + 80) * (b[sixteen] & 15), quant, half_at(b + 82) * (b[sixteen] >> 4));
  }
  if (name == "Q3_K") {
    const int low = b[96 + sixteen % 8] >> sixteen / 8 * 4 & 15;
    const int high = b[104 + sixteen % 4] >> sixteen / 4 * 2 & 3;
    const int above = b[at] >> (4 * half + run) & 1;
    const int quant = (b[32 + 32 * half + at] >> 2 * run & 3) + 4 * above - 4;
    return scaled(half_at(b + 108) * (low + 16 * high - 32), quant);
  }
  if (name == "Q4_K" || name == "Q5_K") {
    const int group = i / 32;
    const std::uint8_t* nibbles = b + (name == "Q4_K" ? 16 : 48);
    int quant = nibbles[32 * (group / 2) + at] >> group % 2 * 4 & 15;
    if (name == "Q5_K") quant += 16 * (b[16 + at] >> group & 1);
    return scaled(half_at(b) * six_bits(b + 4, group, false), quant,
                  half_at(b + 2) * six_bits(b + 4, group, true));
  }
  if (name == "Q6_K") {
    const int low = b[64 * half + 32 * (run % 2) + at] >> run / 2 * 4 & 15;
    const int high = b[128 + 32 * half + at] >> 2 * run & 3;
    return scaled(half_at(b + 208) * static_cast<std::int8_t>(b[192 + sixteen]),
                  low + 16 * high - 32);
  }
  if (name == "IQ4_XS") {
    const int group = i / 32;
    const int low = b[4 + group / 2] >> group % 2 * 4 & 15;
    const int high = (b[2] | b[3] << 8) >> 2 * group & 3;
    return scaled(half_at(b) * (low + 16 * high - 32), iq4(nibble_of(b + 8 + 16 * group, at)));
  }
  return {NAN, NAN};  // a format that is missing here fails every comparison
}

// Byte offsets of a block's binary16 scales, -1 where there is none.
struct ScaleFields {
  int first, second;
};
inline ScaleFields scale_fields(std::string_view name) {
  if (name == "Q4_1" || name == "Q5_1" || name == "Q4_K" || name == "Q5_K") return {0, 2};
  if (name == "Q2_K") return {80, 82};
  if (name == "Q3_K") return {108, -1};
  if (name == "Q6_K") return {208, -1};
  if (name == "MXFP4" || name == "F32") return {-1, -1};
  return {0, -1};
}

}  // namespace rocmforge::test
