// What the Iv (cpu/panel/multiply_body.hpp) of every NEON level has in common: eight lanes, half a
// panel, as two registers.
//
// A plain struct of two, as GCC 12 moves its own int32x4x2_t through memory.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "quant/blocks.hpp"

namespace rocmforge::cpu {
namespace {

struct NeonLanes {
  static constexpr int kLanes = 8;
  static constexpr bool kSignedBytes = true;
  static constexpr int kFourUnitsColumns = 2;  // four units up to so many columns
  static constexpr int kFewGroup = 4;

  template <class T>
  struct Two {
    T a, b;
  };
  using Bytes = Two<uint8x16_t>;
  using Ints = Two<int32x4_t>;
  using Floats = Two<float32x4_t>;

  static Bytes load(const std::uint8_t* p) { return {vld1q_u8(p), vld1q_u8(p + 16)}; }
  static void store(std::uint8_t* p, Bytes v) {
    vst1q_u8(p, v.a);
    vst1q_u8(p + 16, v.b);
  }
  static Bytes add_bytes(Bytes v, int n) {
    const uint8x16_t by = vdupq_n_u8(static_cast<std::uint8_t>(n));
    return {vaddq_u8(v.a, by), vaddq_u8(v.b, by)};
  }
  // (v >> kShift) & kMask in each byte
  template <int kShift, int kMask>
  static Bytes bits(Bytes v) {
    return {bits<kShift, kMask>(v.a), bits<kShift, kMask>(v.b)};
  }
  // v | (the bits of `high` from kFrom on, moved to kTo, & kMask)
  template <int kFrom, int kTo, int kMask>
  static Bytes with_bits(Bytes v, Bytes high) {
    return {with_bits<kFrom, kTo, kMask>(v.a, high.a), with_bits<kFrom, kTo, kMask>(v.b, high.b)};
  }
  static Bytes look_up(const std::uint8_t* table, Bytes codes) {
    const uint8x16_t t = vld1q_u8(table);
    return {vqtbl1q_u8(t, codes.a), vqtbl1q_u8(t, codes.b)};
  }

  static Floats zero() { return {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)}; }
  static Floats set(const float* p) { return {vdupq_n_f32(*p), vdupq_n_f32(*p)}; }
  static Floats add(Floats x, Floats y) { return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b)}; }
  static Floats mul(Floats x, Floats y) { return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b)}; }
  static Floats fma(Floats x, Floats y, Floats z) {
    return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b)};
  }
  static Floats negated_fma(Floats x, Floats y, Floats z) {
    return {vfmsq_f32(z.a, x.a, y.a), vfmsq_f32(z.b, x.b, y.b)};
  }
  static Floats negated(Floats x) { return {vnegq_f32(x.a), vnegq_f32(x.b)}; }
  static Floats floats(Ints v) { return {vcvtq_f32_s32(v.a), vcvtq_f32_s32(v.b)}; }
  static void store(float* p, Floats v, std::int64_t n) {
    if (n >= 8) {
      vst1q_f32(p, v.a);
      vst1q_f32(p + 4, v.b);
      return;
    }
    float lanes[8];
    vst1q_f32(lanes, v.a);
    vst1q_f32(lanes + 4, v.b);
    for (std::int64_t i = 0; i < n; ++i) p[i] = lanes[i];
  }

  static Floats halves(const std::uint8_t* p) {
    const float16x8_t h = vreinterpretq_f16_u8(vld1q_u8(p));
    return {vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)};
  }
  static Floats signed_bytes(const std::uint8_t* p) {
    const int16x8_t v = vmovl_s8(vreinterpret_s8_u8(vld1_u8(p)));
    return floats({vmovl_s16(vget_low_s16(v)), vmovl_high_s16(v)});
  }
  static Floats unsigned_bytes(const std::uint8_t* p) { return floats(widened(vld1_u8(p))); }
  static Floats low_nibbles(const std::uint8_t* p) {
    return floats(widened(vand_u8(vld1_u8(p), vdup_n_u8(15))));
  }
  static Floats high_nibbles(const std::uint8_t* p) {
    return floats(widened(vshr_n_u8(vld1_u8(p), 4)));
  }
  // quant::e8m0_half_to_float
  static Floats e8m0_halves(const std::uint8_t* p) {
    const Ints e = widened(vld1_u8(p));
    return {e8m0_half(e.a), e8m0_half(e.b)};
  }
  static Floats values(const quant::BlockF32* p) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(p);
    return {vreinterpretq_f32_u8(vld1q_u8(bytes)), vreinterpretq_f32_u8(vld1q_u8(bytes + 16))};
  }
  static Floats values(const quant::BlockF16* p) {
    return halves(reinterpret_cast<const std::uint8_t*>(p));
  }
  static Floats values(const quant::BlockBF16* p) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(p);
    const uint16x8_t high = vreinterpretq_u16_u8(vld1q_u8(bytes));
    return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(high), 16)),
            vreinterpretq_f32_u32(vshll_high_n_u16(high, 16))};
  }

 private:
  template <int kShift, int kMask>
  static uint8x16_t bits(uint8x16_t v) {
    if constexpr (kShift != 0) v = vshrq_n_u8(v, kShift);
    if constexpr (kMask >> (8 - kShift) == 0 && kMask == 0xff >> kShift)
      return v;  // nothing but those bits is left
    else
      return vandq_u8(v, vdupq_n_u8(kMask));
  }
  template <int kFrom, int kTo, int kMask>
  static uint8x16_t with_bits(uint8x16_t v, uint8x16_t high) {
    if constexpr (kFrom > kTo) high = vshrq_n_u8(high, kFrom - kTo);
    if constexpr (kFrom < kTo) high = vshlq_n_u8(high, kTo - kFrom);
    return vorrq_u8(v, vandq_u8(high, vdupq_n_u8(kMask)));
  }
  static Ints widened(uint8x8_t bytes) {
    const uint16x8_t v = vmovl_u8(bytes);
    return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(v))),
            vreinterpretq_s32_u32(vmovl_high_u16(v))};
  }
  static float32x4_t e8m0_half(int32x4_t e) {
    const int32x4_t normal = vshlq_n_s32(vsubq_s32(e, vdupq_n_s32(1)), 23);
    const int32x4_t subnormal = vshlq_s32(vdupq_n_s32(0x00200000), e);
    return vreinterpretq_f32_s32(vbslq_s32(vcltq_s32(e, vdupq_n_s32(2)), subnormal, normal));
  }
};

}  // namespace
}  // namespace rocmforge::cpu
