// The experts of every token: softmax over all, the best `used`, renormalised to sum 1.
// Renormalising cancels the softmax's denominator, so a weight is exp(logit - best) over the sum of
// the chosen ones. A wave a token; the next best is looked for `used` times, as no logit is kept.
#include "include/gpu.hpp"

namespace rocmforge::gpu {
namespace {

// A score and its index as one number that is larger for a better one: the score's bits made
// monotonic (NaN and -infinity last), then the index downwards.
struct Candidate {
  std::uint32_t score;
  int expert;
};

RF_DEVICE std::uint32_t monotonic(float x) {
  if (!(x > -__builtin_inff())) x = -__builtin_inff();
  if (x == 0.0f) x = 0.0f;  // -0 is no worse than 0
  const std::uint32_t bits = quant::bits_of_float(x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

RF_DEVICE bool better(Candidate a, Candidate b) {
  return a.score != b.score ? a.score > b.score : a.expert < b.expert;
}

// The best of the lanes' candidates, in every lane; an expert of -1 is none.
template <int kWave>
RF_DEVICE Candidate best_of_wave(Candidate mine) {
  const std::uint32_t score = wave_max<kWave>(mine.expert < 0 ? 0u : mine.score);
  // The lowest index among those of that score, as the highest of the complements.
  const bool tied = mine.expert >= 0 && mine.score == score;
  const std::uint32_t index = wave_max<kWave>(tied ? ~static_cast<std::uint32_t>(mine.expert) : 0u);
  return {score, static_cast<int>(~index)};
}

template <int kWave>
RF_DEVICE void route(const RouteArgs& a) {
  const std::int64_t t = std::int64_t{block_x()} * (kThreads / kWave) + thread_index() / kWave;
  if (t >= *a.num_tokens) return;
  const int lane = thread_index() % kWave;
  const float* logits = a.logits + t * a.experts;
  float sum = 0.0f, highest = 0.0f;
  Candidate last{0xffffffffu, -1};
  for (int j = 0; j < a.used; ++j) {
    Candidate mine{0, -1};
    for (int e = lane; e < a.experts; e += kWave) {
      const Candidate candidate{monotonic(logits[e]), e};
      if (j > 0 && !better(last, candidate)) continue;
      if (mine.expert < 0 || better(candidate, mine)) mine = candidate;
    }
    last = best_of_wave<kWave>(mine);
    const float logit = logits[last.expert];
    if (j == 0) highest = logit;
    const float weight = exp(logit - highest);
    sum += weight;
    if (lane == 0) {
      a.expert[t * a.used + j] = last.expert;
      a.weight[t * a.used + j] = weight;
    }
  }
  if (lane == 0)
    for (int j = 0; j < a.used; ++j) a.weight[t * a.used + j] /= sum;
}

}  // namespace

RF_KERNEL_WAVES(route, RouteArgs, route)
RF_EXPECT("route", 48)

}  // namespace rocmforge::gpu
