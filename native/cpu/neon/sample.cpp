#include "cpu/sample.hpp"

#include <arm_neon.h>
#include <math.h>

#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kWidth = 4;

inline std::int64_t block_end(std::int64_t begin, std::int64_t n) {
  return begin + kSampleBlock < n ? begin + kSampleBlock : n;
}

// x[i..i+4), NaN from n on.
inline float32x4_t load_upto(const float* x, std::int64_t i, std::int64_t n) {
  if (i + kWidth <= n) return vld1q_f32(x + i);
  float lanes[4] = {NAN, NAN, NAN, NAN};
  for (std::int64_t j = i; j < n; ++j) lanes[j - i] = x[j];
  return vld1q_f32(lanes);
}

// b where either is NaN; FMAXNM would make a signaling one quiet and return it.
inline float32x4_t larger(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }

void block_maxima(float* maxima, const float* x, std::int64_t n) {
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    // Four chains, as a comparison and a selection take longer than a load.
    float32x4_t largest[4];
    for (float32x4_t& l : largest) l = vdupq_n_f32(-INFINITY);
    const std::int64_t end = block_end(begin, n);
    std::int64_t i = begin;
    for (; i + 16 <= end; i += 16)
      for (int j = 0; j < 4; ++j) largest[j] = larger(vld1q_f32(x + i + 4 * j), largest[j]);
    for (; i < end; i += kWidth) largest[0] = larger(load_upto(x, i, n), largest[0]);
    maxima[begin / kSampleBlock] =
        vmaxvq_f32(vmaxq_f32(vmaxq_f32(largest[0], largest[1]), vmaxq_f32(largest[2], largest[3])));
  }
}

std::int64_t collect(std::int32_t* ids, float* values, const float* x, const float* maxima,
                     std::int64_t n, float threshold) {
  const float32x4_t t = vdupq_n_f32(threshold);
  std::int64_t count = 0;
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    if (maxima[begin / kSampleBlock] < threshold) continue;
    for (std::int64_t i = begin; i < block_end(begin, n); i += kWidth) {
      const uint16x4_t above = vmovn_u32(vcgeq_f32(load_upto(x, i, n), t));
      for (std::uint64_t lanes = vget_lane_u64(vreinterpret_u64_u16(above), 0); lanes != 0;) {
        const int lane = __builtin_ctzll(lanes) / 16;
        ids[count] = static_cast<std::int32_t>(i + lane);
        values[count] = x[i + lane];
        ++count;
        lanes &= ~(std::uint64_t{0xffff} << 16 * lane);
      }
    }
  }
  return count;
}

inline float32x4_t horner(float32x4_t q, float32x4_t r, float coefficient) {
  return vaddq_f32(vmulq_f32(q, r), vdupq_n_f32(coefficient));
}

// scaled_exp() of four logits.
inline float32x4_t scaled_exps(float32x4_t x, float32x4_t top, float32x4_t inv_temperature) {
  const float32x4_t round = vdupq_n_f32(kExpRound);
  const float32x4_t z =
      larger(vmulq_f32(vsubq_f32(x, top), inv_temperature), vdupq_n_f32(kExpLowest));
  const float32x4_t shifted = vaddq_f32(vmulq_f32(z, vdupq_n_f32(kExpLog2e)), round);
  const float32x4_t n = vsubq_f32(shifted, round);
  const float32x4_t r = vsubq_f32(vsubq_f32(z, vmulq_f32(n, vdupq_n_f32(kExpLn2High))),
                                  vmulq_f32(n, vdupq_n_f32(kExpLn2Low)));
  float32x4_t q = vdupq_n_f32(kExpQ4);
  q = horner(q, r, kExpQ3);
  q = horner(q, r, kExpQ2);
  q = horner(q, r, kExpQ1);
  q = horner(q, r, kExpQ0);
  const float32x4_t mantissa =
      vaddq_f32(vaddq_f32(vmulq_f32(vmulq_f32(q, r), r), r), vdupq_n_f32(1.0f));
  const uint32x4_t exponent =
      vshlq_n_u32(vaddq_u32(vreinterpretq_u32_f32(shifted), vdupq_n_u32(kWeightBits)), 23);
  return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(mantissa), exponent));
}

// Nearest, ties to even.
struct Weights {
  uint64x2_t low, high;

  explicit Weights(float32x4_t w)
      : low(vcvtnq_u64_f64(vcvt_f64_f32(vget_low_f32(w)))),
        high(vcvtnq_u64_f64(vcvt_high_f64_f32(w))) {}
};

void weights(std::uint64_t* weights, const float* x, std::int64_t n, float top,
             float inv_temperature) {
  const float32x4_t tops = vdupq_n_f32(top), inverse = vdupq_n_f32(inv_temperature);
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const Weights w(scaled_exps(vld1q_f32(x + i), tops, inverse));
    vst1q_u64(weights + i, w.low);
    vst1q_u64(weights + i + 2, w.high);
  }
  for (; i < n; ++i) weights[i] = sample_weight(x[i], top, inv_temperature);
}

void block_weights(std::uint64_t* sums, const float* x, const float* maxima, std::int64_t n,
                   float top, float inv_temperature, std::uint64_t min_weight) {
  const float32x4_t tops = vdupq_n_f32(top), inverse = vdupq_n_f32(inv_temperature);
  const uint64x2_t least = vdupq_n_u64(min_weight);
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    uint64x2_t sum = vdupq_n_u64(0);
    if ((maxima[begin / kSampleBlock] - top) * inv_temperature > kExpLowest) {
      for (std::int64_t i = begin; i < block_end(begin, n); i += kWidth) {
        const Weights w(scaled_exps(load_upto(x, i, n), tops, inverse));
        sum = vaddq_u64(sum, vandq_u64(w.low, vcgeq_u64(w.low, least)));
        sum = vaddq_u64(sum, vandq_u64(w.high, vcgeq_u64(w.high, least)));
      }
    }
    sums[begin / kSampleBlock] = vaddvq_u64(sum);
  }
}

}  // namespace

void install_neon_sample(Kernels& k) { k.sample = {block_maxima, collect, weights, block_weights}; }

}  // namespace rocmforge::cpu
