// Linear for formats with blocks of 32 weights, AVX-512 with VNNI, activations in q8x32.
//
// dpbusd multiplies unsigned by signed bytes, so weights are biased and each lane starts from -bias
// times the sum of its four activations: exact, and shared by all rows of a tile. A step is two
// blocks (64 products in 16 lanes); per row, column and step it costs dpbusd, cvt, mul and fma.
// |lane| <= 4 * 255 * 127, far below 2^31.
//
// Rounding: per lane and step one fma, two with a min, and two products; then the sum of sixteen
// lanes: |error| <= (k / 32 + 8) * 2^-24 * S with S as in scalar/linear.cpp.
#include "cpu/avx512/unpack_q8x32.hpp"
#include "cpu/installers.hpp"
#include "quant/activations.hpp"

namespace rocmforge::cpu {
namespace {

using quant::BlockQ8x32;

// Two activation blocks; past the end of the row the second one is zero.
template <class Block>
struct Step {
  __m512i q;
  __m512i start;  // -bias times the sum of the lane's four quants
  __m512 d;
  __m512 sum;  // d times the sum of the lane's four quants, for formats with a min

  Step(const BlockQ8x32* x, bool both) {
    q = _mm512_zextsi256_si512(load256(x[0].qs));
    d = _mm512_set1_ps(x[0].d);
    if (both) {
      q = _mm512_inserti64x4(q, load256(x[1].qs), 1);
      d = _mm512_mask_broadcastss_ps(d, 0xff00, _mm_load_ss(&x[1].d));
    }
    start = _mm512_setzero_si512();
    if constexpr (kBias<Block> != 0)
      start = _mm512_sub_epi32(start, times_sum_of_four(kBias<Block>));
    if constexpr (kHasBlockMin<Block>)
      sum = _mm512_mul_ps(_mm512_cvtepi32_ps(times_sum_of_four(1)), d);
  }

  __m512i times_sum_of_four(int factor) const {
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(static_cast<char>(factor)),
                               q);
  }
};

template <int R, int C, class Block>
[[gnu::noinline]] void add_products(__m512* sums, const StepPanel* panels, const char* x,
                                    std::int64_t x_stride, std::int64_t n) {
  __m512 acc[R][C];
  for_tile<R, C>([&]<int r, int c>() { acc[r][c] = sums[r * kSumStride + c]; });
  for (std::int64_t step = 0; step < (n + 63) / 64; ++step) {
    __m512i w[R];
    for (int r = 0; r < R; ++r) w[r] = panels[r].w[step];
    for (int c = 0; c < C; ++c) {
      const auto* blocks = reinterpret_cast<const BlockQ8x32*>(x + c * x_stride) + 2 * step;
      const Step<Block> s(blocks, 64 * step + 32 < n);
      for (int r = 0; r < R; ++r) {
        const __m512i dot = _mm512_dpbusd_epi32(s.start, w[r], s.q);
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), panels[r].d[step]);
        acc[r][c] = _mm512_fmadd_ps(scaled, s.d, acc[r][c]);
        if constexpr (kHasBlockMin<Block>)
          acc[r][c] = _mm512_fmadd_ps(panels[r].m[step], s.sum, acc[r][c]);
      }
    }
  }
  for_tile<R, C>([&]<int r, int c>() { sums[r * kSumStride + c] = acc[r][c]; });
}

template <class Block>
struct Kernel {
  static constexpr int kRows = 4;
  static constexpr int kCols = 4;
  static constexpr std::int64_t kWeightBytes = 8 * sizeof(Block);
  static constexpr std::int64_t kInputBytes = 8 * sizeof(BlockQ8x32);
  using Panel = StepPanel;
  using Sum = __m512;

  static void unpack(Panel& p, const char* w, std::int64_t n) {
    cpu::unpack(p, reinterpret_cast<const Block*>(w), n);
  }

  template <int R, int C>
  static void tile(Sum* sums, const Panel* panels, const char* x, std::int64_t x_stride,
                   std::int64_t n) {
    add_products<R, C, Block>(sums, panels, x, x_stride, n);
  }

  static float total(Sum sum) { return _mm512_reduce_add_ps(sum); }
};

}  // namespace

void install_avx512_linear_q8x32(Kernels& k) {
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
