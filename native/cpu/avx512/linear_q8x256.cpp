// Linear for K-quants and IQ4_XS, AVX-512 with VNNI, activations in q8x256.
//
// maddubs forms sums of two products in int16 (weights at most 63 unsigned or 127 signed, so at
// most 2 * 127 * 127 = 32258), vpdpwssd multiplies them by the group's scale and adds: two
// instructions per row, column and 64 weights, and one conversion per 256. Signed weights go in as
// |w| with their sign moved onto x.
//
// Integer sums stay below 2^29.1 (scalar/linear.cpp). Rounding: per lane and 256 weights one fma,
// two with a min, a conversion and a product; then the sum of sixteen lanes:
// |error| <= (k / 128 + 8) * 2^-24 * S with S as in scalar/linear.cpp.
#include "cpu/avx512/unpack_q8x256.hpp"
#include "cpu/installers.hpp"
#include "quant/activations.hpp"

namespace rocmforge::cpu {
namespace {

using quant::BlockQ8x256;

inline __m512i widen(__m256i v) { return _mm512_zextsi256_si512(v); }

template <int R, int C, OffsetKind kind>
[[gnu::noinline]] void add_products(__m512* sums, const Panel256* panels, const char* x,
                                    std::int64_t x_stride) {
  auto block = [&](int c) { return reinterpret_cast<const BlockQ8x256*>(x + c * x_stride); };
  __m512i dot[R][C];
  for (int c = 0; c < C; ++c) {
    for (int r = 0; r < R; ++r)
      dot[r][c] =
          kind == OffsetKind::kConstant
              ? widen(_mm256_madd_epi16(load256(panels[r].offsets), load256(block(c)->sums)))
              : _mm512_setzero_si512();
  }
  for (int step = 0; step < 4; ++step) {
    __m512i w[R];
    __mmask64 negative[R];
    for (int r = 0; r < R; ++r) {
      w[r] = _mm512_load_si512(panels[r].q + 64 * step);
      negative[r] = 0;
      if constexpr (kind == OffsetKind::kSigned) {
        negative[r] = _mm512_movepi8_mask(w[r]);
        w[r] = _mm512_abs_epi8(w[r]);
      }
    }
    for (int c = 0; c < C; ++c) {
      const __m512i xq = _mm512_loadu_si512(block(c)->qs + 64 * step);
      for (int r = 0; r < R; ++r) {
        const __m512i x_signed =
            kind == OffsetKind::kSigned
                ? _mm512_mask_sub_epi8(xq, negative[r], _mm512_setzero_si512(), xq)
                : xq;
        const __m512i pairs = _mm512_maddubs_epi16(w[r], x_signed);
        dot[r][c] =
            _mm512_dpwssd_epi32(dot[r][c], pairs, _mm512_load_si512(panels[r].scales[4 * step]));
      }
    }
  }
  for (int c = 0; c < C; ++c) {
    const __m512 dx = _mm512_set1_ps(block(c)->d);
    __m512 x_sums;
    if constexpr (kind == OffsetKind::kMin)
      x_sums =
          _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(load256(block(c)->sums))), dx);
    for (int r = 0; r < R; ++r) {
      __m512 sum = sums[r * kSumStride + c];
      const __m512 scaled =
          _mm512_mul_ps(_mm512_cvtepi32_ps(dot[r][c]), _mm512_set1_ps(panels[r].d));
      sum = _mm512_fmadd_ps(scaled, dx, sum);
      if constexpr (kind == OffsetKind::kMin)
        sum = _mm512_fnmadd_ps(_mm512_load_ps(panels[r].mins), x_sums, sum);
      sums[r * kSumStride + c] = sum;
    }
  }
}

template <class Block>
struct Kernel {
  static constexpr int kRows = 4;
  static constexpr int kCols = 4;
  static constexpr std::int64_t kWeightBytes = sizeof(Block);
  static constexpr std::int64_t kInputBytes = sizeof(BlockQ8x256);
  using Panel = Panel256;
  using Sum = __m512;

  static void unpack(Panel& p, const char* w, std::int64_t) {
    unpack_wide(p, *reinterpret_cast<const Block*>(w));
  }

  template <int R, int C>
  static void tile(Sum* sums, const Panel* panels, const char* x, std::int64_t x_stride,
                   std::int64_t) {
    add_products<R, C, kOffsetKind<Block>>(sums, panels, x, x_stride);
  }

  static float total(Sum sum) { return _mm512_reduce_add_ps(sum); }
};

}  // namespace

void install_avx512_linear_q8x256(Kernels& k) {
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
