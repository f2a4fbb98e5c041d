// y = W x for every format and both kinds of activations, and the decode of a row. Written to be
// read; every other unit must agree with it. A weight block is unpacked once and used for all
// columns, and y itself holds the running sums, so a column sees the same additions in the same
// order whatever num_cols is.
//
// Rounding of a quantized result over B blocks: the integer dots are exact on every ISA; each block
// adds at most a few roundings (float of the dots, their scales, the sum), so
// |error| <= (B + 8) * 2^-24 * S with B = k / 32 and S = sum |w| |x| over the dequantized values,
// where a min counts apart from the quant it belongs to. Two ISAs differ by no more than the sum of
// their bounds. The weight's scale is applied first:
// with binary16 scales no product overflows before the result does. Float activations: |error| <=
// (k / 256 + 22) * 2^-24 * sum |w| |x|.
#include <algorithm>
#include <type_traits>

#include "cpu/installers.hpp"
#include "quant/activations.hpp"
#include "quant/blocks.hpp"

namespace rocmforge::cpu {
namespace {

using quant::BlockQ8x32;

template <class Block>
constexpr int kWeights = quant::BlockTraits<Block>::kWeights;

template <class Block>
void dequantize(float* y, const void* w, std::int64_t k) {
  const auto* blocks = static_cast<const Block*>(w);
  for (std::int64_t b = 0; b < k / kWeights<Block>; ++b)
    for (int i = 0; i < kWeights<Block>; ++i)
      y[b * kWeights<Block> + i] = quant::decode(blocks[b], i);
}

template <class T>
const T* offset_bytes(const void* base, std::int64_t bytes) {
  return reinterpret_cast<const T*>(static_cast<const char*>(base) + bytes);
}

int dot(const std::int8_t* a, const std::int8_t* b, int n) {
  int sum = 0;
  for (int i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// One weight block, unpacked, against the activation blocks it meets.
template <class Block>
struct Unpacked32 {
  std::int8_t q[32];
  float d;
  float m = 0.0f;

  explicit Unpacked32(const Block& b) {
    for (int i = 0; i < 32; ++i) q[i] = static_cast<std::int8_t>(quant::quant(b, i));
    if constexpr (requires { b.d; })
      d = quant::half_to_float(b.d);
    else
      d = quant::e8m0_half_to_float(b.e);
    if constexpr (requires { b.m; }) m = quant::half_to_float(b.m);
  }

  float operator()(const BlockQ8x32* x) const {
    const float product = static_cast<float>(dot(q, x->qs, 32)) * d;
    if constexpr (requires(Block b) { b.m; })
      return (product + x->sums[2] * m) * x->d;
    else
      return product * x->d;
  }
};

template <class Block>
struct Unpacked256 {
  static constexpr bool kHasMin = requires(Block b) { b.dmin; };
  std::int8_t q[256];
  float scales[16];
  float mins[16];

  explicit Unpacked256(const Block& b) {
    for (int i = 0; i < 256; ++i) q[i] = static_cast<std::int8_t>(quant::quant(b, i));
    for (int g = 0; g < 16; ++g) {
      scales[g] = quant::half_to_float(b.d) * static_cast<float>(quant::group_scale(b, g));
      if constexpr (kHasMin)
        mins[g] = quant::half_to_float(b.dmin) * static_cast<float>(quant::group_min(b, g));
    }
  }

  float operator()(const BlockQ8x32* x) const {
    float total = 0.0f;
    for (int b = 0; b < 8; ++b) {
      float product = 0.0f;
      for (int half = 0; half < 2; ++half) {
        const int g = 2 * b + half;
        product += static_cast<float>(dot(q + 16 * g, x[b].qs + 16 * half, 16)) * scales[g];
        if constexpr (kHasMin) product -= x[b].sums[half] * mins[g];
      }
      total += product * x[b].d;
    }
    return total;
  }
};

template <class Block>
void linear_quantized(float* y, std::int64_t y_stride, const void* w, std::int64_t row_bytes,
                      const void* x, std::int64_t x_stride, std::int64_t k, std::int64_t row_begin,
                      std::int64_t row_end, std::int64_t num_cols) {
  using Unpacked = std::conditional_t<kWeights<Block> == 32, Unpacked32<Block>, Unpacked256<Block>>;
  for (std::int64_t r = row_begin; r < row_end; ++r) {
    const auto* blocks = offset_bytes<Block>(w, r * row_bytes);
    for (std::int64_t c = 0; c < num_cols; ++c) y[c * y_stride + r] = 0.0f;
    for (std::int64_t b = 0; b < k / kWeights<Block>; ++b) {
      const Unpacked unpacked(blocks[b]);
      for (std::int64_t c = 0; c < num_cols; ++c)
        y[c * y_stride + r] += unpacked(offset_bytes<BlockQ8x32>(x, c * x_stride) +
                                        b * (kWeights<Block> / quant::kActivationBlock));
    }
  }
}

// Sixteen partial sums, then their total.
float dot(const float* a, const float* b, std::int64_t n) {
  float partial[16] = {};
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 16; ++j) partial[j] += a[i + j] * b[i + j];
  for (int j = 0; i + j < n; ++j) partial[j] += a[i + j] * b[i + j];
  for (int width = 8; width > 0; width /= 2)
    for (int j = 0; j < width; ++j) partial[j] += partial[j + width];
  return partial[0];
}

template <class Block>
void linear_float(float* y, std::int64_t y_stride, const void* w, std::int64_t row_bytes,
                  const void* x, std::int64_t x_stride, std::int64_t k, std::int64_t row_begin,
                  std::int64_t row_end, std::int64_t num_cols) {
  constexpr std::int64_t kChunk = 256;  // a whole number of blocks of every format
  float weights[kChunk];
  for (std::int64_t r = row_begin; r < row_end; ++r) {
    const auto* blocks = offset_bytes<Block>(w, r * row_bytes);
    for (std::int64_t c = 0; c < num_cols; ++c) y[c * y_stride + r] = 0.0f;
    for (std::int64_t i = 0; i < k; i += kChunk) {
      const std::int64_t n = std::min(kChunk, k - i);
      dequantize<Block>(weights, blocks + i / kWeights<Block>, n);
      for (std::int64_t c = 0; c < num_cols; ++c)
        y[c * y_stride + r] += dot(weights, offset_bytes<float>(x, c * x_stride) + i, n);
    }
  }
}

template <class Block>
void install(Kernels& k, quant::Format format) {
  const auto i = static_cast<int>(format);
  k.dequantize[i] = dequantize<Block>;
  k.linear_float[i] = linear_float<Block>;
  if constexpr (kWeights<Block> > 1) k.linear_quantized[i] = linear_quantized<Block>;
}

}  // namespace

void install_scalar_linear(Kernels& k) {
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  install<quant::Block>(k, quant::Format::k##name);
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace rocmforge::cpu
