#include "cpu/sample.hpp"

#include <immintrin.h>
#include <math.h>

#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kWidth = 16;

// Which of the sixteen lanes from i on are below n.
inline __mmask16 inside(std::int64_t i, std::int64_t n) {
  return n - i >= kWidth ? static_cast<__mmask16>(0xffff)
                         : static_cast<__mmask16>((1u << (n - i)) - 1u);
}

inline std::int64_t block_end(std::int64_t begin, std::int64_t n) {
  return begin + kSampleBlock < n ? begin + kSampleBlock : n;
}

void block_maxima(float* maxima, const float* x, std::int64_t n) {
  const __m512 none = _mm512_set1_ps(-INFINITY);
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    // maxps returns its second operand where either is NaN.
    __m512 largest = none;
    if (begin + kSampleBlock <= n) {
      const __m512 a = _mm512_max_ps(_mm512_loadu_ps(x + begin), none);
      const __m512 b = _mm512_max_ps(_mm512_loadu_ps(x + begin + 16), none);
      largest = _mm512_max_ps(_mm512_max_ps(_mm512_loadu_ps(x + begin + 32), a),
                              _mm512_max_ps(_mm512_loadu_ps(x + begin + 48), b));
    } else {
      for (std::int64_t i = begin; i < n; i += kWidth)
        largest = _mm512_mask_max_ps(largest, inside(i, n),
                                     _mm512_maskz_loadu_ps(inside(i, n), x + i), largest);
    }
    maxima[begin / kSampleBlock] = _mm512_reduce_max_ps(largest);
  }
}

std::int64_t collect(std::int32_t* ids, float* values, const float* x, const float* maxima,
                     std::int64_t n, float threshold) {
  const __m512 t = _mm512_set1_ps(threshold);
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  std::int64_t count = 0;
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    if (maxima[begin / kSampleBlock] < threshold) continue;
    for (std::int64_t i = begin; i < block_end(begin, n); i += kWidth) {
      const __mmask16 valid = inside(i, n);
      const __m512 v = _mm512_maskz_loadu_ps(valid, x + i);
      const __mmask16 above = _mm512_mask_cmp_ps_mask(valid, v, t, _CMP_GE_OQ);
      if (above == 0) continue;
      // Compressed in a register and stored whole: the store form of vpcompress is microcoded on
      // Zen 4 (hence kCollectSlack).
      const __m512i id = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(i)), lane);
      _mm512_storeu_si512(ids + count, _mm512_maskz_compress_epi32(above, id));
      _mm512_storeu_ps(values + count, _mm512_maskz_compress_ps(above, v));
      count += __builtin_popcount(above);
    }
  }
  return count;
}

inline __m512 horner(__m512 q, __m512 r, float coefficient) {
  return _mm512_add_ps(_mm512_mul_ps(q, r), _mm512_set1_ps(coefficient));
}

// scaled_exp() of sixteen logits.
inline __m512 scaled_exps(__m512 x, __m512 top, __m512 inv_temperature) {
  const __m512 round = _mm512_set1_ps(kExpRound);
  const __m512 z = _mm512_max_ps(_mm512_mul_ps(_mm512_sub_ps(x, top), inv_temperature),
                                 _mm512_set1_ps(kExpLowest));
  const __m512 shifted = _mm512_add_ps(_mm512_mul_ps(z, _mm512_set1_ps(kExpLog2e)), round);
  const __m512 n = _mm512_sub_ps(shifted, round);
  const __m512 r = _mm512_sub_ps(_mm512_sub_ps(z, _mm512_mul_ps(n, _mm512_set1_ps(kExpLn2High))),
                                 _mm512_mul_ps(n, _mm512_set1_ps(kExpLn2Low)));
  __m512 q = _mm512_set1_ps(kExpQ4);
  q = horner(q, r, kExpQ3);
  q = horner(q, r, kExpQ2);
  q = horner(q, r, kExpQ1);
  q = horner(q, r, kExpQ0);
  const __m512 mantissa =
      _mm512_add_ps(_mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(q, r), r), r), _mm512_set1_ps(1.0f));
  const __m512i exponent = _mm512_slli_epi32(
      _mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(kWeightBits)), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(mantissa), exponent));
}

// Nearest, ties to even: the rounding mode a thread starts with.
inline __m512i nearest(__m256 w) { return _mm512_cvtps_epi64(w); }

void weights(std::uint64_t* weights, const float* x, std::int64_t n, float top,
             float inv_temperature) {
  const __m512 tops = _mm512_set1_ps(top), inverse = _mm512_set1_ps(inv_temperature);
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const __m512 w = scaled_exps(_mm512_loadu_ps(x + i), tops, inverse);
    _mm512_storeu_si512(weights + i, nearest(_mm512_castps512_ps256(w)));
    _mm512_storeu_si512(weights + i + 8, nearest(_mm512_extractf32x8_ps(w, 1)));
  }
  for (; i < n; ++i) weights[i] = sample_weight(x[i], top, inv_temperature);
}

void block_weights(std::uint64_t* sums, const float* x, const float* maxima, std::int64_t n,
                   float top, float inv_temperature, std::uint64_t min_weight) {
  const __m512 tops = _mm512_set1_ps(top), inverse = _mm512_set1_ps(inv_temperature);
  const __m512i least = _mm512_set1_epi64(static_cast<long long>(min_weight));
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    __m512i sum = _mm512_setzero_si512();
    if ((maxima[begin / kSampleBlock] - top) * inv_temperature > kExpLowest) {
      for (std::int64_t i = begin; i < block_end(begin, n); i += kWidth) {
        const __mmask16 valid = inside(i, n);
        const __m512 x16 = _mm512_mask_loadu_ps(_mm512_set1_ps(NAN), valid, x + i);
        const __m512 w = scaled_exps(x16, tops, inverse);
        const __m512i low = nearest(_mm512_castps512_ps256(w));
        const __m512i high = nearest(_mm512_extractf32x8_ps(w, 1));
        sum = _mm512_mask_add_epi64(sum, _mm512_cmpge_epu64_mask(low, least), sum, low);
        sum = _mm512_mask_add_epi64(sum, _mm512_cmpge_epu64_mask(high, least), sum, high);
      }
    }
    sums[begin / kSampleBlock] = static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sum));
  }
}

}  // namespace

void install_avx512_sample(Kernels& k) {
  k.sample = {block_maxima, collect, weights, block_weights};
}

}  // namespace rocmforge::cpu
