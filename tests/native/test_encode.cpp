// Quantizers, and the decode of formats that only files have, inside their buffers and without
// undefined conversions, whatever the weights are.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "quant/blocks.hpp"
#include "quant/encode/encode.hpp"
#include "quant/stored.hpp"

using namespace rocmforge;

namespace {

constexpr std::int64_t kLength = 512;

std::vector<float> weights(std::mt19937& random, float scale) {
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<float> x(kLength);
  for (float& v : x) {
    const unsigned kind = random() % 8;
    v = kind == 0 ? 0.0f : kind == 1 ? -scale : normal(random) * scale / 5.0f;
    v = std::fmin(std::fmax(v, -quant::kLargestWeight), quant::kLargestWeight);
  }
  return x;
}

template <class Block>
void check(quant::Format format, const std::vector<float>& x, const float* importance) {
  constexpr int kWeights = quant::BlockTraits<Block>::kWeights;
  std::vector<Block> blocks(kLength / kWeights);
  quant::row_encoder(format)(blocks.data(), x.data(), importance, kLength);
  float largest = 0.0f, worst = 0.0f;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float y = quant::decode(blocks[i / kWeights], static_cast<int>(i % kWeights));
    largest = std::fmax(largest, std::fabs(x[i]));
    worst = std::isfinite(y) ? std::fmax(worst, std::fabs(y - x[i])) : INFINITY;
  }
  CAPTURE(std::string(quant::info(format).name));
  // What is not important may be lost, at two bits.
  CHECK(worst <= (importance == nullptr ? 0.7f : 1.0f) * largest + 1e-6f);
}

}  // namespace

TEST_CASE("rows of any magnitude are encoded inside their buffers, and decode to finite weights") {
  std::mt19937 random(1);
  for (const float scale : {0.0f, 1e-45f, 1e-38f, 1e-20f, 1e-7f, 0.02f, 1.0f, 65504.0f}) {
    const std::vector<float> x = weights(random, scale);
    std::vector<float> importance(kLength);
    for (float& v : importance) v = static_cast<float>(random() % 3) * 1e30f;
    quant::normalize_importance(importance.data(), kLength);
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  check<quant::Block>(quant::Format::k##name, x, nullptr);     \
  check<quant::Block>(quant::Format::k##name, x, importance.data());
#include "quant/formats.def"
#undef RF_FORMAT
  }
}

TEST_CASE("any bytes of a stored format are decoded inside the buffers") {
  std::mt19937 random(2);
  for (const quant::StoredFormat& f : quant::stored_formats()) {
    const std::int64_t blocks = 64;
    std::vector<std::uint8_t> row(static_cast<std::size_t>(blocks * f.block_bytes));
    std::vector<float> y(static_cast<std::size_t>(blocks * f.block_weights));
    float largest = 0.0f;
    for (int round = 0; round < 8; ++round) {
      for (std::uint8_t& byte : row) byte = static_cast<std::uint8_t>(random());
      f.decode(y.data(), row.data(), blocks * f.block_weights);
      for (const float v : y)
        if (std::isfinite(v)) largest = std::fmax(largest, std::fabs(v));
    }
    CHECK(largest > 1.0f);
  }
}
