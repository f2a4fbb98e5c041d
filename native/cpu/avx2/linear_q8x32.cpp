// Linear for formats with blocks of 32 weights, AVX2 + FMA, activations in q8x32.
//
// maddubs multiplies unsigned by signed bytes, so the sign of w moves onto x:
// w * x == |w| * (x * sgn(w)). With |x| <= 127 and |w| <= 128 a pair sums to at most 32512, below
// the 32767 at which maddubs would saturate.
//
// Rounding: per lane and block one fma, two with a min, and two products; then the sum of eight
// lanes: |error| <= (k / 16 + 8) * 2^-24 * S with S as in scalar/linear.cpp.
#include "cpu/avx2/horizontal_sum.hpp"
#include "cpu/avx2/unpack_q8x32.hpp"
#include "cpu/installers.hpp"
#include "quant/activations.hpp"

namespace rocmforge::cpu {
namespace {

using quant::BlockQ8x32;

inline __m256i sum_pairs(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

template <int R, int C, class Block>
[[gnu::noinline]] void add_products(__m256* sums, const Panel32* panels, const char* x,
                                    std::int64_t x_stride, std::int64_t n) {
  __m256 acc[R][C];
  for_tile<R, C>([&]<int r, int c>() { acc[r][c] = sums[r * kSumStride + c]; });
  for (std::int64_t b = 0; b < n / 32; ++b) {
    for (int c = 0; c < C; ++c) {
      const auto* block = reinterpret_cast<const BlockQ8x32*>(x + c * x_stride) + b;
      const __m256i xq = load256(block->qs);
      const __m256 dx = _mm256_set1_ps(block->d);
      __m256 x_sum;
      if constexpr (kHasBlockMin<Block>)
        x_sum = _mm256_mul_ps(
            _mm256_cvtepi32_ps(sum_pairs(_mm256_maddubs_epi16(_mm256_set1_epi8(1), xq))), dx);
      for (int r = 0; r < R; ++r) {
        const __m256i w = load256(panels[r].q + 32 * b);
        const __m256i dot =
            sum_pairs(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(xq, w)));
        const __m256 scaled =
            _mm256_mul_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(panels[r].d[b]));
        acc[r][c] = _mm256_fmadd_ps(scaled, dx, acc[r][c]);
        if constexpr (kHasBlockMin<Block>)
          acc[r][c] = _mm256_fmadd_ps(_mm256_set1_ps(panels[r].m[b]), x_sum, acc[r][c]);
      }
    }
  }
  for_tile<R, C>([&]<int r, int c>() { sums[r * kSumStride + c] = acc[r][c]; });
}

template <class Block>
struct Kernel {
  static constexpr int kRows = 4;
  static constexpr int kCols = 2;
  static constexpr std::int64_t kWeightBytes = 8 * sizeof(Block);
  static constexpr std::int64_t kInputBytes = 8 * sizeof(BlockQ8x32);
  using Panel = Panel32;
  using Sum = __m256;

  static void unpack(Panel& p, const char* w, std::int64_t n) {
    cpu::unpack(p, reinterpret_cast<const Block*>(w), n);
  }

  template <int R, int C>
  static void tile(Sum* sums, const Panel* panels, const char* x, std::int64_t x_stride,
                   std::int64_t n) {
    add_products<R, C, Block>(sums, panels, x, x_stride, n);
  }

  static float total(Sum sum) { return horizontal_sum(sum); }
};

}  // namespace

void install_avx2_linear_q8x32(Kernels& k) {
#define RF_INSTALL(name)                                         \
  k.linear_quantized[static_cast<int>(quant::Format::k##name)] = \
      linear_tiles<Kernel<quant::Block##name>>;
  RF_INSTALL(Q4_0)
  RF_INSTALL(Q4_1)
  RF_INSTALL(Q5_0)
  RF_INSTALL(Q5_1)
  RF_INSTALL(Q8_0)
  RF_INSTALL(IQ4_NL)
  RF_INSTALL(MXFP4)
#undef RF_INSTALL
}

}  // namespace rocmforge::cpu
