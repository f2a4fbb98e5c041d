// Linear with float32 activations and the decode of a row, every format, NEON. The formats' codes
// and scales are those that panels are packed from (cpu/panel/).
//
// Per row and column eight lanes of fused multiply-adds over the decoded weights, then their sum:
// |error| <= (k / 8 + 3) * 2^-24 * sum |w| |x|.
#include <arm_neon.h>

#include "cpu/installers.hpp"
#include "cpu/linear_rows.hpp"
#include "cpu/panel/pack_body.hpp"

namespace rocmforge::cpu {
namespace {

template <class Block>
constexpr std::int64_t kChunkBytes =
    kChunk / quant::BlockTraits<Block>::kWeights * static_cast<std::int64_t>(sizeof(Block));

inline float32x4_t four_floats(const quant::BlockF32* w) {
  return vreinterpretq_f32_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(w)));
}
inline float32x4_t four_floats(const quant::BlockF16* w) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(reinterpret_cast<const std::uint8_t*>(w))));
}
inline float32x4_t four_floats(const quant::BlockBF16* w) {
  const uint8x8_t bytes = vld1_u8(reinterpret_cast<const std::uint8_t*>(w));
  return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(bytes), 16));
}

// scale * (codes - offset) - min of sixteen weights, each operation rounded, as quant::decode does.
inline void put_sixteen(float* y, int8x16_t integers, float scale, float min) {
  const int16x8_t halves[2] = {vmovl_s8(vget_low_s8(integers)), vmovl_high_s8(integers)};
  const float32x4_t m = vdupq_n_f32(min);
  for (int i = 0; i < 2; ++i) {
    const float32x4_t low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(halves[i])));
    const float32x4_t high = vcvtq_f32_s32(vmovl_high_s16(halves[i]));
    vst1q_f32(y + 8 * i, vsubq_f32(vmulq_n_f32(low, scale), m));
    vst1q_f32(y + 8 * i + 4, vsubq_f32(vmulq_n_f32(high, scale), m));
  }
}

template <class Block>
inline float scale_of(const Block& b, int group) {
  if constexpr (requires { group_scale(b, 0); })
    return quant::half_to_float(b.d) * static_cast<float>(group_scale(b, group));
  else if constexpr (requires { b.e; })
    return quant::e8m0_half_to_float(b.e);
  else
    return quant::half_to_float(b.d);
}

template <class Block>
inline float min_of(const Block& b, int group) {
  if constexpr (requires { group_min(b, 0); })
    return quant::half_to_float(b.dmin) * static_cast<float>(group_min(b, group));
  else if constexpr (requires { b.m; })
    return -quant::half_to_float(b.m);
  else
    return 0.0f;  // x - 0 is x, for every x
}

// The n weights at w, a whole number of blocks, equal to quant::decode bit by bit.
template <class Block>
inline void decode(float* y, const Block* w, std::int64_t n) {
  using P = PanelOf<Block>;
  if constexpr (P::kIsFloat) {
    const std::int64_t whole = n / 4 * 4;
    for (std::int64_t i = 0; i < whole; i += 4) vst1q_f32(y + i, four_floats(w + i));
    for (std::int64_t i = whole; i < n; ++i) y[i] = quant::decode(w[i], 0);
  } else {
    constexpr int kWeights = quant::BlockTraits<Block>::kWeights;
    std::int8_t table[16];
    if constexpr (P::kIsTable)
      for (int i = 0; i < 16; ++i) table[i] = static_cast<std::int8_t>(P::value(i));
    for (; n > 0; n -= kWeights, y += kWeights, ++w) {
      std::uint8_t bytes[kWeights];
      codes(bytes, *w);
      for (int i = 0; i < kWeights; i += 16) {
        const uint8x16_t code = vld1q_u8(bytes + i);
        int8x16_t integers;
        if constexpr (P::kIsTable)
          integers = vqtbl1q_s8(vld1q_s8(table), code);
        else
          integers = vreinterpretq_s8_u8(vsubq_u8(code, vdupq_n_u8(P::kBias)));
        put_sixteen(y + i, integers, scale_of(*w, i / 16), min_of(*w, i / 16));
      }
    }
  }
}

struct alignas(64) Decoded {
  float w[kChunk];
};

struct Lanes {
  float32x4_t a, b;
};

// The first n of eight floats, zeros after them.
inline Lanes load_first(const float* p, std::int64_t n) {
  if (n >= 8) return {vld1q_f32(p), vld1q_f32(p + 4)};
  float lanes[8] = {};
  for (std::int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return {vld1q_f32(lanes), vld1q_f32(lanes + 4)};
}

template <int R, int C>
[[gnu::noinline]] void add_products(Lanes* sums, const Decoded* rows, const char* x,
                                    std::int64_t x_stride, std::int64_t n) {
  Lanes s[R][C];
  for_tile<R, C>([&]<int r, int c>() { s[r][c] = sums[r * kSumStride + c]; });
  for (std::int64_t i = 0; i < n; i += 8) {
    Lanes xs[C];
    unrolled<C>([&]<int c>() {
      xs[c] = load_first(reinterpret_cast<const float*>(x + c * x_stride) + i, n - i);
    });
    for_tile<R, C>([&]<int r, int c>() {
      s[r][c].a = vfmaq_f32(s[r][c].a, vld1q_f32(rows[r].w + i), xs[c].a);
      s[r][c].b = vfmaq_f32(s[r][c].b, vld1q_f32(rows[r].w + i + 4), xs[c].b);
    });
  }
  for_tile<R, C>([&]<int r, int c>() { sums[r * kSumStride + c] = s[r][c]; });
}

template <class Block>
struct Kernel {
  static constexpr int kRows = 4;  // 24 sums, with two registers of a row and six of columns
  static constexpr int kCols = 3;
  static constexpr std::int64_t kWeightBytes = kChunkBytes<Block>;
  static constexpr std::int64_t kInputBytes = kChunk * sizeof(float);
  using Decoded = cpu::Decoded;
  using Sum = Lanes;

  static void unpack(Decoded& p, const char* w, std::int64_t n) {
    decode(p.w, reinterpret_cast<const Block*>(w), n);
    for (std::int64_t i = n; i % 8 != 0; ++i) p.w[i] = 0.0f;
  }

  template <int R, int C>
  static void tile(Sum* sums, const Decoded* rows, const char* x, std::int64_t x_stride,
                   std::int64_t n) {
    add_products<R, C>(sums, rows, x, x_stride, n);
  }

  static float total(Sum sum) { return vaddvq_f32(vaddq_f32(sum.a, sum.b)); }
};

template <class Block>
void dequantize(float* y, const void* w, std::int64_t k) {
  decode(y, static_cast<const Block*>(w), k);
}

template <class Block>
void install(Kernels& k, quant::Format format) {
  const auto i = static_cast<int>(format);
  k.dequantize[i] = dequantize<Block>;
  k.linear_float[i] = linear_tiles<Kernel<Block>>;
}

}  // namespace

void install_neon_linear_float(Kernels& k) {
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  install<quant::Block>(k, quant::Format::k##name);
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace rocmforge::cpu
