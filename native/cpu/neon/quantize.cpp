// Activation quantization and packing of columns, NEON: the bytes that quant/activations.hpp
// defines.
#include <arm_neon.h>

#include "cpu/installers.hpp"
#include "cpu/panel/columns.hpp"
#include "quant/activations.hpp"
#include "quant/small_floats.hpp"

namespace rocmforge::cpu {
namespace {

// To nearest, ties to even; the values fit a byte.
inline int16x8_t rounded(const float* x, float inverse) {
  const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse));
  return vmovn_high_s32(vmovn_s32(low), vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), inverse)));
}

inline int8x16_t sixteen(const float* x, float inverse) {
  return vmovn_high_s16(vmovn_s16(rounded(x, inverse)), rounded(x + 8, inverse));
}

// Fills qs[0..32) and returns the scale.
inline float quantize_block(std::int8_t* qs, const float* x) {
  uint32x4_t max = vdupq_n_u32(0);
  for (int i = 0; i < 32; i += 4) {
    const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i));
    max = vmaxq_u32(max, vandq_u32(bits, vdupq_n_u32(0x7fffffff)));
  }
  const std::uint32_t max_bits = vmaxvq_u32(max);
  const float largest = quant::float_of_bits(max_bits);
  const float d = largest / 127.0f;
  if (max_bits >= 0x7f800000u || d < 0x1p-126f) {
    __builtin_memset(qs, 0, 32);
    return max_bits >= 0x7f800000u ? __builtin_nanf("") : 0.0f;
  }
  const float inverse = 127.0f / largest;
  vst1q_s8(qs, sixteen(x, inverse));
  vst1q_s8(qs + 16, sixteen(x + 16, inverse));
  return d;
}

void quantize(quant::BlockQ8x32* y, std::int64_t y_stride, const float* x, std::int64_t k) {
  for (; k > 0; k -= 32, x += 32, y += y_stride) {
    y->d = quantize_block(y->qs, x);
    const std::int32_t first = vaddlvq_s8(vld1q_s8(y->qs));
    const std::int32_t last = vaddlvq_s8(vld1q_s8(y->qs + 16));
    const std::int32_t sums[3] = {first, last, first + last};
    for (int i = 0; i < 3; ++i) {
      y->sums[i] = static_cast<float>(sums[i]);
      y->offsets[i] = -128 * sums[i];
    }
    y->unused = 0;
  }
}

}  // namespace

void install_neon_quantize(Kernels& k) {
  k.quantize = quantize;
  k.panels.pack_columns[static_cast<int>(quant::ActivationType::kFloat)] = pack_floats;
  k.panels.pack_columns[static_cast<int>(quant::ActivationType::kQ8x32)] = pack_quantized<quantize>;
}

}  // namespace rocmforge::cpu
