// Float32 to bfloat16, to nearest even, subnormals to zero.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace rocmforge::cpu {
namespace {

// The first n of 16 lanes; all if n is larger, none if it is negative.
inline __mmask16 first_lanes(std::int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}

// even[0], odd[0], even[1], odd[1], ...
[[gnu::always_inline]] inline __m512i rounded(__m512 even, __m512 odd) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even)));
}

// 32 values from x on; those beyond n are zero and are not read.
inline __m512i rounded(const float* x, std::int64_t n) {
  const __m512 low = _mm512_maskz_loadu_ps(first_lanes(n), x);
  const __m512 high = _mm512_maskz_loadu_ps(first_lanes(n - 16), x + 16);
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

}  // namespace
}  // namespace rocmforge::cpu
