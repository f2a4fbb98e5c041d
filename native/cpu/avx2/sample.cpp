#include "cpu/sample.hpp"

#include <immintrin.h>
#include <math.h>

#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kWidth = 8;

// Lanes below `count` are all ones; count is 1..8.
inline __m256i first_lanes(std::int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// x[i..i+8), NaN from n on.
inline __m256 load_upto(const float* x, std::int64_t i, std::int64_t n) {
  if (i + kWidth <= n) return _mm256_loadu_ps(x + i);
  const __m256i inside = first_lanes(n - i);
  return _mm256_blendv_ps(_mm256_set1_ps(NAN), _mm256_maskload_ps(x + i, inside),
                          _mm256_castsi256_ps(inside));
}

inline std::int64_t block_end(std::int64_t begin, std::int64_t n) {
  return begin + kSampleBlock < n ? begin + kSampleBlock : n;
}

void block_maxima(float* maxima, const float* x, std::int64_t n) {
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    // maxps returns its second operand where either is NaN.
    __m256 largest = _mm256_set1_ps(-INFINITY);
    for (std::int64_t i = begin; i < block_end(begin, n); i += kWidth)
      largest = _mm256_max_ps(load_upto(x, i, n), largest);
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    maxima[begin / kSampleBlock] = _mm_cvtss_f32(m);
  }
}

std::int64_t collect(std::int32_t* ids, float* values, const float* x, const float* maxima,
                     std::int64_t n, float threshold) {
  const __m256 t = _mm256_set1_ps(threshold);
  std::int64_t count = 0;
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    if (maxima[begin / kSampleBlock] < threshold) continue;
    for (std::int64_t i = begin; i < block_end(begin, n); i += kWidth) {
      const __m256 above = _mm256_cmp_ps(load_upto(x, i, n), t, _CMP_GE_OQ);
      for (unsigned lanes = static_cast<unsigned>(_mm256_movemask_ps(above)); lanes != 0;
           lanes &= lanes - 1) {
        const std::int64_t j = i + __builtin_ctz(lanes);
        ids[count] = static_cast<std::int32_t>(j);
        values[count] = x[j];
        ++count;
      }
    }
  }
  return count;
}

inline __m256 horner(__m256 q, __m256 r, float coefficient) {
  return _mm256_add_ps(_mm256_mul_ps(q, r), _mm256_set1_ps(coefficient));
}

// scaled_exp() of eight logits.
inline __m256 scaled_exps(__m256 x, __m256 top, __m256 inv_temperature) {
  const __m256 round = _mm256_set1_ps(kExpRound);
  const __m256 z = _mm256_max_ps(_mm256_mul_ps(_mm256_sub_ps(x, top), inv_temperature),
                                 _mm256_set1_ps(kExpLowest));
  const __m256 shifted = _mm256_add_ps(_mm256_mul_ps(z, _mm256_set1_ps(kExpLog2e)), round);
  const __m256 n = _mm256_sub_ps(shifted, round);
  const __m256 r = _mm256_sub_ps(_mm256_sub_ps(z, _mm256_mul_ps(n, _mm256_set1_ps(kExpLn2High))),
                                 _mm256_mul_ps(n, _mm256_set1_ps(kExpLn2Low)));
  __m256 q = _mm256_set1_ps(kExpQ4);
  q = horner(q, r, kExpQ3);
  q = horner(q, r, kExpQ2);
  q = horner(q, r, kExpQ1);
  q = horner(q, r, kExpQ0);
  const __m256 mantissa =
      _mm256_add_ps(_mm256_add_ps(_mm256_mul_ps(_mm256_mul_ps(q, r), r), r), _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_slli_epi32(
      _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(kWeightBits)), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(mantissa), exponent));
}

inline __m256i nearest(__m128 w) {
  const __m256d one = _mm256_set1_pd(0x1p52);
  return _mm256_sub_epi64(_mm256_castpd_si256(_mm256_add_pd(_mm256_cvtps_pd(w), one)),
                          _mm256_castpd_si256(one));
}

void weights(std::uint64_t* weights, const float* x, std::int64_t n, float top,
             float inv_temperature) {
  const __m256 tops = _mm256_set1_ps(top), inverse = _mm256_set1_ps(inv_temperature);
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const __m256 w = scaled_exps(_mm256_loadu_ps(x + i), tops, inverse);
    auto* out = reinterpret_cast<__m256i*>(weights + i);
    _mm256_storeu_si256(out, nearest(_mm256_castps256_ps128(w)));
    _mm256_storeu_si256(out + 1, nearest(_mm256_extractf128_ps(w, 1)));
  }
  for (; i < n; ++i) weights[i] = sample_weight(x[i], top, inv_temperature);
}

void block_weights(std::uint64_t* sums, const float* x, const float* maxima, std::int64_t n,
                   float top, float inv_temperature, std::uint64_t min_weight) {
  const __m256 tops = _mm256_set1_ps(top), inverse = _mm256_set1_ps(inv_temperature);
  // Weights are below 2^41, so the signed comparison serves.
  const __m256i below_least = _mm256_set1_epi64x(static_cast<long long>(min_weight) - 1);
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    __m256i sum = _mm256_setzero_si256();
    if ((maxima[begin / kSampleBlock] - top) * inv_temperature > kExpLowest) {
      for (std::int64_t i = begin; i < block_end(begin, n); i += kWidth) {
        const __m256 w = scaled_exps(load_upto(x, i, n), tops, inverse);
        const __m256i low = nearest(_mm256_castps256_ps128(w));
        const __m256i high = nearest(_mm256_extractf128_ps(w, 1));
        sum = _mm256_add_epi64(sum, _mm256_and_si256(low, _mm256_cmpgt_epi64(low, below_least)));
        sum = _mm256_add_epi64(sum, _mm256_and_si256(high, _mm256_cmpgt_epi64(high, below_least)));
      }
    }
    const __m128i pair =
        _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    sums[begin / kSampleBlock] = static_cast<std::uint64_t>(_mm_cvtsi128_si64(pair)) +
                                 static_cast<std::uint64_t>(_mm_extract_epi64(pair, 1));
  }
}

}  // namespace

void install_avx2_sample(Kernels& k) { k.sample = {block_maxima, collect, weights, block_weights}; }

}  // namespace rocmforge::cpu
