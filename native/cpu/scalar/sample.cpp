#include "cpu/sample.hpp"

#include <math.h>

#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

inline std::int64_t block_end(std::int64_t begin, std::int64_t n) {
  return begin + kSampleBlock < n ? begin + kSampleBlock : n;
}

void block_maxima(float* maxima, const float* x, std::int64_t n) {
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    float largest = -INFINITY;
    for (std::int64_t i = begin; i < block_end(begin, n); ++i)
      largest = x[i] > largest ? x[i] : largest;
    maxima[begin / kSampleBlock] = largest;
  }
}

std::int64_t collect(std::int32_t* ids, float* values, const float* x, const float* maxima,
                     std::int64_t n, float threshold) {
  std::int64_t count = 0;
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    if (maxima[begin / kSampleBlock] < threshold) continue;
    for (std::int64_t i = begin; i < block_end(begin, n); ++i) {
      ids[count] = static_cast<std::int32_t>(i);
      values[count] = x[i];
      count += x[i] >= threshold;
    }
  }
  return count;
}

void weights(std::uint64_t* weights, const float* x, std::int64_t n, float top,
             float inv_temperature) {
  for (std::int64_t i = 0; i < n; ++i) weights[i] = sample_weight(x[i], top, inv_temperature);
}

void block_weights(std::uint64_t* sums, const float* x, const float* maxima, std::int64_t n,
                   float top, float inv_temperature, std::uint64_t min_weight) {
  for (std::int64_t begin = 0; begin < n; begin += kSampleBlock) {
    std::uint64_t sum = 0;
    if ((maxima[begin / kSampleBlock] - top) * inv_temperature > kExpLowest) {
      for (std::int64_t i = begin; i < block_end(begin, n); ++i) {
        const std::uint64_t w = sample_weight(x[i], top, inv_temperature);
        sum += w >= min_weight ? w : 0;
      }
    }
    sums[begin / kSampleBlock] = sum;
  }
}

}  // namespace

void install_scalar_sample(Kernels& k) {
  k.sample = {block_maxima, collect, weights, block_weights};
}

}  // namespace rocmforge::cpu
