// Linear for K-quants and IQ4_XS, AVX2 + FMA, activations in q8x256.
//
// maddubs forms sums of two products in int16 (weights at most 63 unsigned or 127 signed, so at
// most 2 * 127 * 127 = 32258), pmaddwd multiplies them by the group's scale: three instructions
// per row, column and 32 weights, and one conversion per 256. Signed weights go in as |w| with
// their sign moved onto x.
//
// Integer sums stay below 2^29.1 (scalar/linear.cpp). Rounding: per lane and 256 weights one
// product and one fma, twice that with a min, and the sum of lanes:
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
  const BlockQ8x256* blocks[C];
  __m256i dot[R][C];
  for (int c = 0; c < C; ++c) {
    blocks[c] = reinterpret_cast<const BlockQ8x256*>(x + c * x_stride);
    for (int r = 0; r < R; ++r)
      dot[r][c] = kind == OffsetKind::kConstant
                      ? _mm256_madd_epi16(load256(panels[r].mins), load256(blocks[c]->sums))
                      : _mm256_setzero_si256();
  }
  for (int step = 0; step < 8; ++step) {
    for (int c = 0; c < C; ++c) {
      const __m256i xq = load256(blocks[c]->qs + 32 * step);
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
    const __m256 dx = _mm256_set1_ps(blocks[c]->d);
    for (int r = 0; r < R; ++r) {
      __m256 sum = sums[r * kMaxCols + c];
      const __m256 scaled =
          _mm256_mul_ps(_mm256_cvtepi32_ps(dot[r][c]), _mm256_set1_ps(panels[r].d));
      sum = _mm256_fmadd_ps(scaled, dx, sum);
      if constexpr (kind == OffsetKind::kMin) {
        const __m256i mins = _mm256_madd_epi16(load256(panels[r].mins), load256(blocks[c]->sums));
        const __m256 scaled_mins =
            _mm256_mul_ps(_mm256_cvtepi32_ps(mins), _mm256_set1_ps(panels[r].dmin));
        sum = _mm256_fnmadd_ps(scaled_mins, dx, sum);
      }
      sums[r * kMaxCols + c] = sum;
    }
  }
}

template <class BlockType>
struct Kernel {
  using Block = BlockType;
  static constexpr int kRows = 4;
  static constexpr int kCols = 2;
  using Panel = Panel256;
  using Sum = __m256;

  static void unpack(Panel& p, const char* row, std::int64_t i, std::int64_t) {
    cpu::unpack(p, reinterpret_cast<const Block*>(row)[i / 256]);
  }

  template <int R, int C>
  static void tile(Sum* sums, const Panel* panels, const char* x, std::int64_t x_stride,
                   std::int64_t i, std::int64_t) {
    add_products<R, C, kOffsetKind<Block>>(
        sums, panels, x + i / 256 * static_cast<std::int64_t>(sizeof(BlockQ8x256)), x_stride);
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
