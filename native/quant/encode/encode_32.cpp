// Formats of 32 weights with a scale of their own, and the floats.
#include <cmath>
#include <cstring>

#include "quant/encode/encode_block.hpp"
#include "quant/encode/fit.hpp"
#include "quant/encode/tables.hpp"

namespace rocmforge::quant {
namespace {

struct Codes {
  float q[32];
  unsigned operator()(int i, int bias = 0) const {
    return static_cast<unsigned>(static_cast<int>(q[i]) + bias);
  }
};

// Weights i and i + 16 share byte i.
template <class Code>
void put_nibbles(std::uint8_t* qs, const Code& code) {
  for (int i = 0; i < 16; ++i)
    qs[i] = static_cast<std::uint8_t>((code(i) & 15u) | (code(i + 16) & 15u) << 4);
}

template <class Code>
void put_fifth_bits(std::uint8_t* qh, const Code& code) {
  std::memset(qh, 0, 4);
  for (int i = 0; i < 32; ++i) qh[i / 8] |= static_cast<std::uint8_t>((code(i) >> 4 & 1u) << i % 8);
}

// A scale and its integers in [-half, half - 1], or a scale, an offset and integers from 0.
template <class Block>
Codes fit_symmetric(Block& b, const float* x, const float* w, int half) {
  const Group g{x, w, 32};
  b.d = saturated_half(fit_scale(g, -half, half - 1));
  Codes codes;
  assign(codes.q, g, half_to_float(b.d), 0.0f, -half, half - 1);
  return codes;
}

template <class Block>
Codes fit_with_offset(Block& b, const float* x, const float* w, int high) {
  const Group g{x, w, 32};
  const Affine fit = fit_affine(g, high, false);
  b.d = saturated_half(fit.d);
  b.m = saturated_half(fit.m);
  Codes codes;
  assign(codes.q, g, half_to_float(b.d), half_to_float(b.m), 0, high);
  return codes;
}

}  // namespace

void encode(BlockF32& b, const float* x, const float*) { b.value = *x; }
void encode(BlockF16& b, const float* x, const float*) { b.value = float_to_half(*x); }
void encode(BlockBF16& b, const float* x, const float*) { b.value = float_to_bf16(*x); }

void encode(BlockQ4_0& b, const float* x, const float* w) {
  const Codes codes = fit_symmetric(b, x, w, 8);
  put_nibbles(b.qs, [&](int i) { return codes(i, 8); });
}

void encode(BlockQ4_1& b, const float* x, const float* w) {
  const Codes codes = fit_with_offset(b, x, w, 15);
  put_nibbles(b.qs, codes);
}

void encode(BlockQ5_0& b, const float* x, const float* w) {
  const Codes codes = fit_symmetric(b, x, w, 16);
  const auto code = [&](int i) { return codes(i, 16); };
  put_nibbles(b.qs, code);
  put_fifth_bits(b.qh, code);
}

void encode(BlockQ5_1& b, const float* x, const float* w) {
  const Codes codes = fit_with_offset(b, x, w, 31);
  put_nibbles(b.qs, codes);
  put_fifth_bits(b.qh, codes);
}

// As everybody writes it, bit for bit: the integers come from the scale before it is rounded, and
// halves go away from 0. A search would gain less than a hundredth of the error.
void encode(BlockQ8_0& b, const float* x, const float*) {
  float largest = 0.0f;
  for (int i = 0; i < 32; ++i) largest = std::fmax(largest, std::fabs(x[i]));
  const float d = largest / 127.0f;
  const float inverse = largest < kSmallest ? 0.0f : 1.0f / d;
  b.d = saturated_half(d);
  for (int i = 0; i < 32; ++i) b.qs[i] = static_cast<std::int8_t>(std::round(x[i] * inverse));
}

void encode(BlockIQ4_NL& b, const float* x, const float* w) {
  const Group g{x, w, 32};
  std::uint8_t codes[32];
  b.d = saturated_half(fit_iq4_scale(g));
  assign_iq4(codes, g, half_to_float(b.d));
  put_nibbles(b.qs, [&](int i) { return static_cast<unsigned>(codes[i]); });
}

void encode(BlockMXFP4& b, const float* x, const float* w) {
  std::uint8_t codes[32];
  b.e = fit_mxfp4(codes, {x, w, 32});
  put_nibbles(b.qs, [&](int i) { return static_cast<unsigned>(codes[i]); });
}

}  // namespace rocmforge::quant
