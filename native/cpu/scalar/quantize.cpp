// Activation quantization; quant/activations.hpp defines the result bit by bit.
#include "quant/activations.hpp"

#include <cstring>

#include "cpu/installers.hpp"
#include "quant/small_floats.hpp"

namespace rocmforge::cpu {
namespace {

// Nearest integer, ties to even, of |v| <= 127.5: adding 1.5 * 2^23 leaves no fraction bits.
int round_to_even(float v) {
  constexpr float kMagic = 0x1.8p23f;
  return static_cast<int>(quant::bits_of_float(v + kMagic) - quant::bits_of_float(kMagic));
}

// Fills qs[0..n) and returns the scale.
float quantize_block(std::int8_t* qs, const float* x, int n) {
  std::uint32_t max_bits = 0;  // of |x|; ordered like the values, NaN above infinity
  for (int i = 0; i < n; ++i) {
    const std::uint32_t bits = quant::bits_of_float(x[i]) & 0x7fffffffu;
    if (bits > max_bits) max_bits = bits;
  }
  const float max = quant::float_of_bits(max_bits);
  const float d = max / 127.0f;
  if (max_bits >= 0x7f800000u || d < 0x1p-126f) {
    std::memset(qs, 0, static_cast<std::size_t>(n));
    return max_bits >= 0x7f800000u ? __builtin_nanf("") : 0.0f;
  }
  const float inverse = 127.0f / max;
  for (int i = 0; i < n; ++i) qs[i] = static_cast<std::int8_t>(round_to_even(x[i] * inverse));
  return d;
}

int sum(const std::int8_t* qs, int n) {
  int s = 0;
  for (int i = 0; i < n; ++i) s += qs[i];
  return s;
}

void quantize(quant::BlockQ8x32* y, std::int64_t y_stride, const float* x, std::int64_t k) {
  for (; k > 0; k -= 32, x += 32, y += y_stride) {
    y->d = quantize_block(y->qs, x, 32);
    const int first = sum(y->qs, 16), last = sum(y->qs + 16, 16);
    const int sums[3] = {first, last, first + last};
    for (int i = 0; i < 3; ++i) {
      y->sums[i] = static_cast<float>(sums[i]);
      y->offsets[i] = -128 * sums[i];
    }
    y->unused = 0;
  }
}

}  // namespace

void install_scalar_quantize(Kernels& k) { k.quantize = quantize; }

}  // namespace rocmforge::cpu
