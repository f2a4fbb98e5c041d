// Linear for K-quants and IQ4_XS, AVX2 + FMA, activations in q8x256.
//
// maddubs forms sums of two products in int16 (weights at most 63 unsigned or 127 signed, so at
// most 2 * 127 * 127 = 32258), pmaddwd multiplies them by the group's scale: three instructions per
// row, column and 32 weights, and one conversion per 256. Signed weights go in as |w| with their
// sign moved onto x.
//
// Integer sums stay below 2^29.1 (scalar/linear.cpp). Rounding: per lane and 256 weights one fma,
// three with a min, a conversion and a product; then the sum of eight lanes:
// |error| <= (k / 64 + 8) * 2^-24 * S with S as in scalar/linear.cpp.
#include "cpu/avx2/horizontal_sum.hpp"
#include "cpu/avx2/unpack_q8x256.hpp"
#include "cpu/installers.hpp"
#include "quant/activations.hpp"

namespace rocmforge::cpu {
namespace {

using quant::BlockQ8x256;

template <int R, int C, OffsetKind kind>
[[gnu::noinline]] void add_products(__m256* sums, const Panel256* panels, const char* x,
                                    std::int64_t x_stride) {
  auto block = [&](int c) { return reinterpret_cast<const BlockQ8x256*>(x + c * x_stride); };
  __m256i dot[R][C];
  for (int c = 0; c < C; ++c) {
    for (int r = 0; r < R; ++r)
      dot[r][c] = kind == OffsetKind::kConstant
                      ? _mm256_madd_epi16(load256(panels[r].offsets), load256(block(c)->sums))
                      : _mm256_setzero_si256();
  }
  for (int step = 0; step < 8; ++step) {
    for (int c = 0; c < C; ++c) {
      const __m256i xq = load256(block(c)->qs + 32 * step);
      for (int r = 0; r < R; ++r) {
        const __m256i w = load256(panels[r].q + 32 * step);
        const __m256i pairs =
            kind == OffsetKind::kSigned
                ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(xq, w))
                : _mm256_maddubs_epi16(w, xq);
        dot[r][c] = _mm256_add_epi32(dot[r][c],
                                     _mm256_madd_epi16(pairs, load256(panels[r].scales[2 * step])));
      }
    }
  }
  for (int c = 0; c < C; ++c) {
    const __m256 dx = _mm256_set1_ps(block(c)->d);
    __m256 x_sums[2];
    if constexpr (kind == OffsetKind::kMin)
      for (int half = 0; half < 2; ++half)
        x_sums[half] = _mm256_mul_ps(
            _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(load128(block(c)->sums + 8 * half))), dx);
    for (int r = 0; r < R; ++r) {
      __m256 sum = sums[r * kSumStride + c];
      const __m256 scaled =
          _mm256_mul_ps(_mm256_cvtepi32_ps(dot[r][c]), _mm256_set1_ps(panels[r].d));
      sum = _mm256_fmadd_ps(scaled, dx, sum);
      if constexpr (kind == OffsetKind::kMin)
        for (int half = 0; half < 2; ++half)
          sum = _mm256_fnmadd_ps(_mm256_load_ps(panels[r].mins + 8 * half), x_sums[half], sum);
      sums[r * kSumStride + c] = sum;
    }
  }
}

template <class Block>
struct Kernel {
  static constexpr int kRows = 4;
  static constexpr int kCols = 2;
  static constexpr std::int64_t kWeightBytes = sizeof(Block);
  static constexpr std::int64_t kInputBytes = sizeof(BlockQ8x256);
  using Panel = Panel256;
  using Sum = __m256;

  static void unpack(Panel& p, const char* w, std::int64_t) {
    cpu::unpack(p, *reinterpret_cast<const Block*>(w));
  }

  template <int R, int C>
  static void tile(Sum* sums, const Panel* panels, const char* x, std::int64_t x_stride,
                   std::int64_t) {
    add_products<R, C, kOffsetKind<Block>>(sums, panels, x, x_stride);
  }

  static float total(Sum sum) { return horizontal_sum(sum); }
};

}  // namespace

void install_avx2_linear_q8x256(Kernels& k) {
#define RF_INSTALL(name)                                         \
  k.linear_quantized[static_cast<int>(quant::Format::k##name)] = \
      linear_tiles<Kernel<quant::Block##name>>;
  RF_INSTALL(Q2_K)
  RF_INSTALL(Q3_K)
  RF_INSTALL(Q4_K)
  RF_INSTALL(Q5_K)
  RF_INSTALL(Q6_K)
  RF_INSTALL(IQ4_XS)
#undef RF_INSTALL
}

}  // namespace rocmforge::cpu
