// How one row of logits becomes one token id, exactly, and the scans over the vocabulary that an
// ISA unit provides for it. A GPU that follows this page draws the same ids: nothing in it
// depends on the order of a floating-point sum.
//
// x[i] are the logits, float32. All float operations below are single IEEE operations rounded to
// nearest; none may be contracted into an FMA.
//
//   1. adjust   x += bias; then, where the repetition penalty p applies, x = x > 0 ? x / p : x * p;
//               then x -= presence + frequency penalty * count, rounded to float32 before.
//               Tokens a mask forbids become -inf.
//   2. top      the largest x. NaN counts as -inf here and everywhere. No draw unless it is finite.
//   3. greedy   temperature 0: the lowest id with x == top.
//   4. weight   w[i] = sample_weight(x[i], top, min(1 / temperature, largest float)):
//               exp((x - top) / temperature) in fixed point with 40 fractional bits. Sums of
//               weights are integers, so they associate, and have room for 2^23 tokens. What is
//               below 2^-41 of the most probable token weighs 0 and is never drawn: over 2^18
//               tokens less than 1.2e-7 of the whole.
//   5. top-k    the first k in the order (x descending, id ascending).
//   6. top-p    of those the shortest prefix of that order whose weight reaches
//               ceil(double(top_p) * double(weight of those)), at least 1, at most all.
//   7. min-p    of those the ones with w >= ceil(double(min_p) * 2^40). As min_p <= 1, the first in
//               the order stays.
//   8. draw     t = the upper 64 bits of philox_bits(seed, position) * (weight of those, 64 bits);
//               the result is the first in the order of ids at which the running sum exceeds t.
#pragma once

#include <cstdint>

#include "core/hd.hpp"

namespace rocmforge::cpu {

constexpr std::int64_t kSampleBlock = 64;          // logits a block maximum stands for
constexpr std::int64_t kMaxSampleVocab = 1 << 23;  // sums of weights stay within 2^63
constexpr int kWeightBits = 40;

// exp(z) = 2^n * (1 + r + r^2 q(r)), n = round(z / ln 2), |r| <= ln 2 / 2. ln 2 is split so that
// n * kExpLn2High is exact for |n| < 2^14. q is a weighted minimax fit of degree 4. Over all of
// [-30, 0] the result is within 0.97 ulp (8.2e-8 relative) of the exponential.
constexpr float kExpLowest = -30.0f;  // its weight, 0.1, rounds to 0
constexpr float kExpLog2e = 0x1.715476p+0f;
constexpr float kExpRound = 0x1.8p+23f;  // x + kExpRound - kExpRound rounds to an integer
constexpr float kExpLn2High = 0x1.63p-1f;
constexpr float kExpLn2Low = -0x1.bd0106p-13f;
constexpr float kExpQ0 = 0x1.fffffcp-2f;
constexpr float kExpQ1 = 0x1.555490p-3f;
constexpr float kExpQ2 = 0x1.5558f8p-5f;
constexpr float kExpQ3 = 0x1.123b04p-7f;
constexpr float kExpQ4 = 0x1.6a224ep-10f;

// exp((x - top) * inv_temperature) * 2^40, in float.
RF_HD float scaled_exp(float x, float top, float inv_temperature) {
  const float scaled = (x - top) * inv_temperature;
  const float z = scaled > kExpLowest ? scaled : kExpLowest;  // NaN becomes kExpLowest
  const float shifted = z * kExpLog2e + kExpRound;
  const float n = shifted - kExpRound;
  const float r = z - n * kExpLn2High - n * kExpLn2Low;
  const float q = (((kExpQ4 * r + kExpQ3) * r + kExpQ2) * r + kExpQ1) * r + kExpQ0;
  const float mantissa = q * r * r + r + 1.0f;
  // The low bits of `shifted` are n; added to the exponent of `mantissa` they multiply by 2^n.
  const std::uint32_t n_bits = __builtin_bit_cast(std::uint32_t, shifted);
  const std::uint32_t bits =
      __builtin_bit_cast(std::uint32_t, mantissa) + ((n_bits + kWeightBits) << 23);
  return __builtin_bit_cast(float, bits);
}

// The nearest integer, ties to even: adding 2^52 to a double leaves no bits behind the point.
RF_HD std::uint64_t sample_weight(float x, float top, float inv_temperature) {
  const double shifted = static_cast<double>(scaled_exp(x, top, inv_temperature)) + 0x1p52;
  return __builtin_bit_cast(std::uint64_t, shifted) - __builtin_bit_cast(std::uint64_t, 0x1p52);
}

// The scans. Results are the same on every ISA, bit for bit. Block b is logits [64 b, 64 b + 64),
// the last one possibly shorter.
struct SampleKernels {
  // maxima[b] = the largest logit of block b that is not NaN, -inf where there is none.
  void (*block_maxima)(float* maxima, const float* x, std::int64_t n);

  // Writes the ids and the values of all x >= threshold, in the order of ids, and returns how
  // many they are. `maxima` are those of x. Both outputs have room for n + kCollectSlack.
  std::int64_t (*collect)(std::int32_t* ids, float* values, const float* x, const float* maxima,
                          std::int64_t n, float threshold);

  // weights[i] = sample_weight(x[i], top, inv_temperature)
  void (*weights)(std::uint64_t* weights, const float* x, std::int64_t n, float top,
                  float inv_temperature);

  // sums[b] = the sum of those weights of block b that are at least `min_weight`.
  void (*block_weights)(std::uint64_t* sums, const float* x, const float* maxima, std::int64_t n,
                        float top, float inv_temperature, std::uint64_t min_weight);
};
constexpr std::int64_t kCollectSlack = 16;  // vectors are stored whole

}  // namespace rocmforge::cpu
