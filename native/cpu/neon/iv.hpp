// Iv and Dot (cpu/panel/multiply_body.hpp) of NEON without dot products: products of bytes in 16
// bits.
#pragma once

#include "cpu/neon/lanes.hpp"

namespace rocmforge::cpu {
namespace {

struct Iv : NeonLanes {
  static constexpr bool kAnyByte = false;
  static constexpr int kManyGroup = 2;  // times two units: 16 sums of products, 8 of floats
  using Word = int8x16_t;

  // Four activations, those of group kGroup, in every lane.
  template <int kGroup>
  static Word word(const std::int8_t* x) {
    std::int32_t word;
    __builtin_memcpy(&word, x, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
  }
};

// As many products as a sum of 16 bits holds: 127 * kMaxCode each. A register of four rows has two
// sums of eight products, so that the four weights of a row lie in neighbouring sums.
template <int kMaxCode, int kGroups>
struct Dot {
  static_assert(127 * kMaxCode * kGroups <= 32767);
  struct Sums {
    int16x8_t low, high;

    template <bool kFirst>
    [[gnu::always_inline]] void add(int8x16_t w, int8x16_t x) {
      if constexpr (kFirst) {
        low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
        high = vmull_high_s8(w, x);
      } else {
        low = vmlal_s8(low, vget_low_s8(w), vget_low_s8(x));
        high = vmlal_high_s8(high, w, x);
      }
    }
    [[gnu::always_inline]] int32x4_t total() const {
      return vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
    }
  } a, b;
  int32x4_t offset;  // -128 times the sum of the activations, times the codes' offset / 128

  template <int kBias>
  [[gnu::always_inline]] void start(const std::int32_t& offset_of) {
    if constexpr (kBias == 0)
      offset = vdupq_n_s32(0);
    else
      offset = vshrq_n_s32(vdupq_n_s32(offset_of), 7 - __builtin_ctz(kBias));
  }
  template <int kGroup>
  [[gnu::always_inline]] void add(Iv::Bytes w, Iv::Word x) {
    a.template add<kGroup == 0>(vreinterpretq_s8_u8(w.a), x);
    b.template add<kGroup == 0>(vreinterpretq_s8_u8(w.b), x);
  }
  [[gnu::always_inline]] Iv::Ints finish() const {
    return {vaddq_s32(a.total(), offset), vaddq_s32(b.total(), offset)};
  }
};

// Of signed bytes: only a pair of products fits 16 bits, so each is added to 32 at once.
template <int kGroups>
struct Dot<255, kGroups> {
  struct Sums {
    int32x4_t low, high;

    [[gnu::always_inline]] void add(int8x16_t w, int8x16_t x) {
      low = vpadalq_s16(low, vmull_s8(vget_low_s8(w), vget_low_s8(x)));
      high = vpadalq_s16(high, vmull_high_s8(w, x));
    }
  } a, b;

  template <int kBias>
  [[gnu::always_inline]] void start(const std::int32_t&) {
    static_assert(kBias == 0);
    a = b = {vdupq_n_s32(0), vdupq_n_s32(0)};
  }
  template <int>
  [[gnu::always_inline]] void add(Iv::Bytes w, Iv::Word x) {
    a.add(vreinterpretq_s8_u8(w.a), x);
    b.add(vreinterpretq_s8_u8(w.b), x);
  }
  [[gnu::always_inline]] Iv::Ints finish() const {
    return {vpaddq_s32(a.low, a.high), vpaddq_s32(b.low, b.high)};
  }
};

}  // namespace
}  // namespace rocmforge::cpu
