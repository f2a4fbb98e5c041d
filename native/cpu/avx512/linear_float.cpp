// Linear with float32 activations, every format, AVX-512.
//
// Per row and column sixteen lanes of fused multiply-adds over the decoded weights, then their sum:
// |error| <= (k / 16 + 4) * 2^-24 * sum |w| |x|.
#include "cpu/avx2/decode_chunk.hpp"
#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

struct alignas(64) Panel {
  float w[kChunk];
};

template <int R, int C>
[[gnu::noinline]] void add_products(__m512* sums, const Panel* panels, const char* x,
                                    std::int64_t x_stride, std::int64_t n) {
  __m512 acc[R][C];
  for_tile<R, C>([&]<int r, int c>() { acc[r][c] = sums[r * kSumStride + c]; });
  for (std::int64_t i = 0; i < n; i += 16) {
    const auto mask = static_cast<__mmask16>(n - i >= 16 ? 0xffff : (1 << (n - i)) - 1);
    __m512 w[R];
    for (int r = 0; r < R; ++r) w[r] = _mm512_load_ps(panels[r].w + i);
    for (int c = 0; c < C; ++c) {
      const float* column = reinterpret_cast<const float*>(x + c * x_stride) + i;
      const __m512 xs = _mm512_maskz_loadu_ps(mask, column);
      for (int r = 0; r < R; ++r) acc[r][c] = _mm512_fmadd_ps(w[r], xs, acc[r][c]);
    }
  }
  for_tile<R, C>([&]<int r, int c>() { sums[r * kSumStride + c] = acc[r][c]; });
}

template <class Block>
struct Kernel {
  static constexpr int kRows = 8;
  static constexpr int kCols = 3;
  static constexpr std::int64_t kWeightBytes = kChunkBytes<Block>;
  static constexpr std::int64_t kInputBytes = kChunk * sizeof(float);
  using Panel = cpu::Panel;
  using Sum = __m512;

  static void unpack(Panel& p, const char* w, std::int64_t n) {
    decode_chunk(p.w, reinterpret_cast<const Block*>(w), n);
    for (std::int64_t i = n; i % 16 != 0; ++i) p.w[i] = 0.0f;
  }

  template <int R, int C>
  static void tile(Sum* sums, const Panel* panels, const char* x, std::int64_t x_stride,
                   std::int64_t n) {
    add_products<R, C>(sums, panels, x, x_stride, n);
  }

  static float total(Sum sum) { return _mm512_reduce_add_ps(sum); }
};

template <class Block>
void install(Kernels& k, quant::Format format, quant::ActivationType activation) {
  const auto i = static_cast<int>(format);
  k.linear_float[i] = linear_tiles<Kernel<Block>>;
  if (activation == quant::ActivationType::kFloat) k.linear_quantized[i] = k.linear_float[i];
}

}  // namespace

void install_avx512_linear_float(Kernels& k) {
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  install<quant::Block>(k, quant::Format::k##name, quant::ActivationType::activation);
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace rocmforge::cpu
