// The 16- and 8-bit floating-point types of GGUF blocks, to and from binary32, by bit arithmetic
// alone: the result is the same on every device and does not need F16C.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/hd.hpp"

namespace rocmforge::quant {

RF_HD float float_of_bits(std::uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

RF_HD std::uint32_t bits_of_float(float f) {
  std::uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  return bits;
}

// IEEE binary16; exact, subnormals included. A NaN keeps its payload.
RF_HD float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t magnitude = h & 0x7fffu;
  if (magnitude < 0x0400u)  // zero or subnormal: magnitude * 2^-24 is exact in binary32
    return float_of_bits(sign | bits_of_float(static_cast<float>(magnitude) * 0x1p-24f));
  const std::uint32_t bits = magnitude << 13;
  return float_of_bits(sign | (magnitude >= 0x7c00u ? bits | 0x7f800000u : bits + 0x38000000u));
}

// To nearest, ties to even, as VCVTPS2PH rounds; above 65519.99 it is infinity, a NaN stays one.
RF_HD std::uint16_t float_to_half(float f) {
  const std::uint32_t bits = bits_of_float(f);
  const std::uint16_t sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | (magnitude >> 13 & 0x1ffu);
  } else if (magnitude >= 0x477ff000u) {  // rounds to 2^16 or more
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // subnormal: let the addition of 0.5 do the rounding
    half = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | half);
}

RF_HD float bf16_to_float(std::uint16_t b) {
  return float_of_bits(static_cast<std::uint32_t>(b) << 16);
}

// To nearest, ties to even; a NaN stays one.
RF_HD std::uint16_t float_to_bf16(float f) {
  const std::uint32_t bits = bits_of_float(f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Half of the E8M0 value 2^(e-127): MXFP4 stores doubled weights, so the halves fit integers.
// e = 0 and 1 are the subnormals 2^-128 and 2^-127; e = 255 (NaN in the OCP text) is 2^127, as
// in ggml.
RF_HD float e8m0_half_to_float(std::uint8_t e) {
  return float_of_bits(e < 2 ? 0x00200000u << e : static_cast<std::uint32_t>(e - 1) << 23);
}

}  // namespace rocmforge::quant
