// Dot (cpu/panel/multiply_body.hpp) with SDOT: four signed bytes of each lane at a time.
#pragma once

#include "cpu/neon/lanes.hpp"

namespace rocmforge::cpu {
namespace {

struct DotLanes : NeonLanes {
  static constexpr bool kAnyByte = true;
  using Word = int8x16_t;  // of sixteen activations, the group's among them

  // SDOT takes its four bytes from a lane of a register: one load serves four groups.
  template <int kGroup>
  static Word word(const std::int8_t* x) {
    return vld1q_s8(x - 4 * (kGroup % 4));
  }
};

template <int kMaxCode, int kGroups>
struct Dot {
  NeonLanes::Ints sum;

  // offset: -128 times the sum of the activations
  template <int kBias>
  [[gnu::always_inline]] void start(const std::int32_t& offset) {
    if constexpr (kBias == 0)
      sum.a = vdupq_n_s32(0);
    else
      sum.a = vshrq_n_s32(vdupq_n_s32(offset), 7 - __builtin_ctz(kBias));
    sum.b = sum.a;
  }
  template <int kGroup>
  [[gnu::always_inline]] void add(NeonLanes::Bytes w, DotLanes::Word x) {
    sum.a = vdotq_laneq_s32(sum.a, vreinterpretq_s8_u8(w.a), x, kGroup % 4);
    sum.b = vdotq_laneq_s32(sum.b, vreinterpretq_s8_u8(w.b), x, kGroup % 4);
  }
  [[gnu::always_inline]] NeonLanes::Ints finish() const { return sum; }
};

}  // namespace
}  // namespace rocmforge::cpu
