// Linear for formats with blocks of 32 weights, AVX-512 with VNNI, activations in q8x32.
//
// dpbusd multiplies unsigned by signed bytes, so activations are biased to x + 128 and each lane
// starts from -128 times the sum of its four weights: exact, and the same for every column. A
// step is two blocks (64 products in 16 lanes); per row, column and step it costs dpbusd, cvt,
// mul and fma. |lane| <= 4 * 255 * 128, far below 2^31.
//
// Rounding: per lane and step one product with the weight scale and one fma, per row the sum of
// lanes; formats with a min add one product and one fma. |error| <= (k / 32 + 8) * 2^-24 * S with
// S as in scalar/linear.cpp.
#include "cpu/avx2/unpack_q8x32.hpp"
#include "cpu/installers.hpp"
#include "quant/activations.hpp"

namespace rocmforge::cpu {
namespace {

using quant::BlockQ8x32;

constexpr std::int64_t kSteps = kChunk / 64;

struct Panel : Panel32 {
  __m512i start[kSteps];  // -128 * the sum of a lane's four weights
  __m512 d16[kSteps];     // scale of the lane's block
  __m512 m16[kSteps];
};

inline __m512 spread(const float* pair_of_eight, int step) {
  const __m512i index = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  return _mm512_permutexvar_ps(_mm512_add_epi32(index, _mm512_set1_epi32(2 * step)),
                               _mm512_castps256_ps512(_mm256_load_ps(pair_of_eight)));
}

// Two activation blocks; past the end of the row the second one is zero.
struct Step {
  __m512i biased;  // x + 128
  __m512 d;
  __m512 sum;  // d times the lane's four quants

  template <bool kNeedsSum>
  static Step load(const BlockQ8x32* x, bool both) {
    __m512i q = _mm512_zextsi256_si512(load256(x[0].qs));
    __m512 d = _mm512_set1_ps(x[0].d);
    if (both) {
      q = _mm512_inserti64x4(q, load256(x[1].qs), 1);
      d = _mm512_mask_broadcastss_ps(d, 0xff00, _mm_load_ss(&x[1].d));
    }
    Step s{_mm512_xor_si512(q, _mm512_set1_epi8(-128)), d, d};
    if constexpr (kNeedsSum) {
      const __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q);
      s.sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), d);
    }
    return s;
  }
};

template <int R, int C, bool kMin>
[[gnu::noinline]] void add_products(__m512* sums, const Panel* panels, const char* x,
                                    std::int64_t x_stride, std::int64_t n) {
  __m512 acc[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) acc[r][c] = sums[r * kMaxCols + c];
  for (std::int64_t step = 0; step < (n + 63) / 64; ++step) {
    __m512i w[R];
    for (int r = 0; r < R; ++r) w[r] = _mm512_load_si512(panels[r].q + 64 * step);
    for (int c = 0; c < C; ++c) {
      const auto* blocks = reinterpret_cast<const BlockQ8x32*>(x + c * x_stride) + 2 * step;
      const Step s = Step::load<kMin>(blocks, 64 * step + 32 < n);
      for (int r = 0; r < R; ++r) {
        const __m512i dot = _mm512_dpbusd_epi32(panels[r].start[step], s.biased, w[r]);
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), panels[r].d16[step]);
        acc[r][c] = _mm512_fmadd_ps(scaled, s.d, acc[r][c]);
        if constexpr (kMin) acc[r][c] = _mm512_fmadd_ps(panels[r].m16[step], s.sum, acc[r][c]);
      }
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sums[r * kMaxCols + c] = acc[r][c];
}

template <class BlockType>
struct Kernel {
  using Block = BlockType;
  static constexpr int kRows = 4;
  static constexpr int kCols = 4;
  using Panel = cpu::Panel;
  using Sum = __m512;

  static void unpack(Panel& p, const char* row, std::int64_t i, std::int64_t n) {
    cpu::unpack(p, reinterpret_cast<const Block*>(row) + i / 32, n);
    for (int step = 0; step < kSteps; ++step) {
      const __m512i w = _mm512_load_si512(p.q + 64 * step);
      const __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(-128), w);
      p.start[step] = _mm512_sub_epi32(_mm512_setzero_si512(), sum);
      p.d16[step] = spread(p.d, step);
      if constexpr (kHasBlockMin<Block>) p.m16[step] = spread(p.m, step);
    }
  }

  template <int R, int C>
  static void tile(Sum* sums, const Panel* panels, const char* x, std::int64_t x_stride,
                   std::int64_t i, std::int64_t n) {
    add_products<R, C, kHasBlockMin<Block>>(
        sums, panels, x + i / 32 * static_cast<std::int64_t>(sizeof(BlockQ8x32)), x_stride, n);
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
