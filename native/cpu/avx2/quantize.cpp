// Activation quantization and packing of columns, AVX2: the bytes that quant/activations.hpp
// defines. The conversion to int32 rounds to nearest even in the default MXCSR mode, which nothing
// in the library changes.
#include <immintrin.h>

#include "cpu/installers.hpp"
#include "cpu/panel/columns.hpp"
#include "quant/activations.hpp"
#include "quant/small_floats.hpp"

namespace rocmforge::cpu {
namespace {

inline std::uint32_t max_lane(__m256i v) {
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(m));
}

inline __m256i rounded(const float* x, __m256 inverse) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
}

// Fills qs[0..32) and returns the scale.
inline float quantize_block(std::int8_t* qs, const float* x) {
  __m256i max = _mm256_setzero_si256();
  for (int i = 0; i < 32; i += 8) {
    const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + i));
    max = _mm256_max_epu32(max, _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
  }
  const std::uint32_t max_bits = max_lane(max);
  const float largest = quant::float_of_bits(max_bits);
  const float d = largest / 127.0f;
  if (max_bits >= 0x7f800000u || d < 0x1p-126f) {
    __builtin_memset(qs, 0, 32);
    return max_bits >= 0x7f800000u ? __builtin_nanf("") : 0.0f;
  }
  const __m256 inverse = _mm256_set1_ps(127.0f / largest);
  const __m256i low = _mm256_packs_epi32(rounded(x, inverse), rounded(x + 8, inverse));
  const __m256i high = _mm256_packs_epi32(rounded(x + 16, inverse), rounded(x + 24, inverse));
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high),
                                                    _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(qs), bytes);
  return d;
}

// Sums of sixteen bytes each: two, in the low int32 of the vector's halves.
inline __m256i sums_of_16(const std::int8_t* qs) {
  const __m256i q = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(qs));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
  __m256i s = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  s = _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0x4e));
  return _mm256_add_epi32(s, _mm256_shuffle_epi32(s, 0xb1));
}

void quantize(quant::BlockQ8x32* y, std::int64_t y_stride, const float* x, std::int64_t k) {
  for (; k > 0; k -= 32, x += 32, y += y_stride) {
    y->d = quantize_block(y->qs, x);
    const __m256i s = sums_of_16(y->qs);
    const std::int32_t first = _mm256_extract_epi32(s, 0), last = _mm256_extract_epi32(s, 4);
    const std::int32_t sums[3] = {first, last, first + last};
    for (int i = 0; i < 3; ++i) {
      y->sums[i] = static_cast<float>(sums[i]);
      y->offsets[i] = -128 * sums[i];
    }
    y->unused = 0;
  }
}

}  // namespace

void install_avx2_quantize(Kernels& k) {
  k.quantize = quantize;
  k.panels.pack_columns[static_cast<int>(quant::ActivationType::kFloat)] = pack_floats;
  k.panels.pack_columns[static_cast<int>(quant::ActivationType::kQ8x32)] = pack_quantized<quantize>;
}

}  // namespace rocmforge::cpu
