// Iv and Dot (cpu/panel/multiply_body.hpp) of AVX-512 with VNNI.
#pragma once

#include "cpu/avx512/lanes.hpp"

namespace rocmforge::cpu {
namespace {

struct Iv : Avx512Lanes {
  static constexpr bool kSignedBytes = false;
};

// The dot product of the lanes' bytes with kGroups words of four activations. Written in assembly:
// GCC 12 does not keep the sums of the intrinsic in place, and moves cost a third of the speed.
template <int kMaxCode, int kGroups>
struct Dot {
  Iv::Ints sum;

  // offset: -128 times the sum of the activations
  template <int kBias>
  [[gnu::always_inline]] void start(const std::int32_t& offset) {
    if constexpr (kBias == 0)
      sum = _mm512_setzero_si512();
    else
      sum = _mm512_srai_epi32(_mm512_set1_epi32(offset), 7 - __builtin_ctz(kBias));
  }
  template <int kGroup>
  [[gnu::always_inline]] void add(Iv::Bytes w, Iv::Word x) {
    Iv::Ints s = sum;  // of a member GCC 12 would make a place in memory
    asm("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(w), "v"(x));
    sum = s;
  }
  [[gnu::always_inline]] Iv::Ints finish() const { return sum; }
};

}  // namespace
}  // namespace rocmforge::cpu
