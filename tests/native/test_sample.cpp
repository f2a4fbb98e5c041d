// The scans over the vocabulary: the same bits at every level.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cpu/kernels.hpp"

using namespace rocmforge;

namespace {

// Normal in steps of 1/8, so that there are ties, with a few infinities and NaN.
std::vector<float> logits(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0, 6);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = std::round(8 * value(random)) / 8;
  for (int i = 0; i < 3; ++i) {
    x[random() % x.size()] = -std::numeric_limits<float>::infinity();
    x[random() % x.size()] = NAN;
  }
  return x;
}

std::size_t num_blocks(std::int64_t n) {
  return static_cast<std::size_t>((n + cpu::kSampleBlock - 1) / cpu::kSampleBlock);
}

}  // namespace

TEST_CASE("every level scans logits to the same bits as the scalar one") {
  const cpu::Kernels scalar = cpu::kernels_for(cpu::Isa::kScalar);
  for (const std::int64_t n : {1, 2, 5, 17, 63, 64, 65, 127, 300, 1003}) {
    const std::vector<float> x = logits(n, static_cast<unsigned>(n));
    const std::size_t blocks = num_blocks(n), size = x.size();
    std::vector<float> maxima(blocks);
    scalar.sample.block_maxima(maxima.data(), x.data(), n);
    float top = -std::numeric_limits<float>::infinity();
    for (const float m : maxima) top = std::max(top, m);
    std::vector<std::uint64_t> weights(size), sums(blocks);
    std::vector<std::int32_t> ids(size + cpu::kCollectSlack);
    std::vector<float> values(ids.size());
    for (const cpu::Isa isa : cpu::available_isas()) {
      CAPTURE(std::string(cpu::name(isa)));
      const cpu::SampleKernels k = cpu::kernels_for(isa).sample;
      std::vector<float> level_maxima(blocks);
      k.block_maxima(level_maxima.data(), x.data(), n);
      CHECK(level_maxima == maxima);
      for (const float inverse : {0.3f, 1.0f, 7.0f}) {
        std::vector<std::uint64_t> level_weights(size), level_sums(blocks);
        scalar.sample.weights(weights.data(), x.data(), n, top, inverse);
        k.weights(level_weights.data(), x.data(), n, top, inverse);
        CHECK(level_weights == weights);
        for (const std::uint64_t least : {std::uint64_t{0}, std::uint64_t{1} << 36}) {
          scalar.sample.block_weights(sums.data(), x.data(), maxima.data(), n, top, inverse, least);
          k.block_weights(level_sums.data(), x.data(), maxima.data(), n, top, inverse, least);
          CHECK(level_sums == sums);
        }
      }
      for (const float threshold : {top, top - 4.0f, -1000.0f}) {
        std::vector<std::int32_t> level_ids(ids.size());
        std::vector<float> level_values(ids.size());
        const std::int64_t count =
            scalar.sample.collect(ids.data(), values.data(), x.data(), maxima.data(), n, threshold);
        CHECK(k.collect(level_ids.data(), level_values.data(), x.data(), maxima.data(), n,
                        threshold) == count);
        const auto end = static_cast<std::ptrdiff_t>(count);
        CHECK(std::equal(ids.begin(), ids.begin() + end, level_ids.begin()));
        CHECK(std::equal(values.begin(), values.begin() + end, level_values.begin()));
      }
    }
  }
}
