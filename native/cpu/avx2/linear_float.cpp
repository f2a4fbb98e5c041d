// Linear with float32 activations and the decode of a row, every format, AVX2 + FMA + F16C.
//
// Per row and column eight lanes of fused multiply-adds over the decoded weights, then their sum:
// |error| <= (k / 8 + 3) * 2^-24 * sum |w| |x|.
#include "cpu/avx2/decode_chunk.hpp"
#include "cpu/avx2/horizontal_sum.hpp"
#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

struct alignas(64) Decoded {
  float w[kChunk];
};

// The first n of eight floats, zeros after them.
inline __m256 load_first(const float* p, std::int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane));
}

template <int R, int C>
[[gnu::noinline]] void add_products(__m256* sums, const Decoded* rows, const char* x,
                                    std::int64_t x_stride, std::int64_t n) {
  __m256 acc[R][C];
  for_tile<R, C>([&]<int r, int c>() { acc[r][c] = sums[r * kSumStride + c]; });
  for (std::int64_t i = 0; i < n; i += 8) {
    __m256 xs[C];
    for (int c = 0; c < C; ++c) {
      const float* column = reinterpret_cast<const float*>(x + c * x_stride) + i;
      xs[c] = n - i >= 8 ? _mm256_loadu_ps(column) : load_first(column, n - i);
    }
    for (int r = 0; r < R; ++r) {
      const __m256 w = _mm256_load_ps(rows[r].w + i);
      for (int c = 0; c < C; ++c) acc[r][c] = _mm256_fmadd_ps(w, xs[c], acc[r][c]);
    }
  }
  for_tile<R, C>([&]<int r, int c>() { sums[r * kSumStride + c] = acc[r][c]; });
}

template <class Block>
struct Kernel {
  static constexpr int kRows = 4;
  static constexpr int kCols = 3;
  static constexpr std::int64_t kWeightBytes = kChunkBytes<Block>;
  static constexpr std::int64_t kInputBytes = kChunk * sizeof(float);
  using Decoded = cpu::Decoded;
  using Sum = __m256;

  static void unpack(Decoded& p, const char* w, std::int64_t n) {
    decode_chunk(p.w, reinterpret_cast<const Block*>(w), n);
    for (std::int64_t i = n; i % 8 != 0; ++i) p.w[i] = 0.0f;
  }

  template <int R, int C>
  static void tile(Sum* sums, const Decoded* rows, const char* x, std::int64_t x_stride,
                   std::int64_t n) {
    add_products<R, C>(sums, rows, x, x_stride, n);
  }

  static float total(Sum sum) { return horizontal_sum(sum); }
};

template <class Block>
void dequantize(float* y, const void* w, std::int64_t k) {
  const auto* chunk = static_cast<const char*>(w);
  for (; k >= kChunk; k -= kChunk, y += kChunk, chunk += kChunkBytes<Block>)
    decode_chunk(y, reinterpret_cast<const Block*>(chunk), kChunk);
  if (k > 0) decode_chunk(y, reinterpret_cast<const Block*>(chunk), k);
}

template <class Block>
void install(Kernels& k, quant::Format format) {
  const auto i = static_cast<int>(format);
  k.dequantize[i] = dequantize<Block>;
  k.linear_float[i] = linear_tiles<Kernel<Block>>;
}

}  // namespace

void install_avx2_linear_float(Kernels& k) {
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  install<quant::Block>(k, quant::Format::k##name);
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace rocmforge::cpu
