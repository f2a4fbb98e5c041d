#include "quant/encode/encode.hpp"

#include <array>
#include <cmath>

#include "quant/encode/encode_block.hpp"

namespace rocmforge::quant {
namespace {

constexpr int kMostWeights = 256;  // of a block
constexpr float kImportanceFloor = 1e-4f;

template <class Block>
void encode_row(void* blocks, const float* x, const float* importance, std::int64_t k) {
  constexpr int kWeights = BlockTraits<Block>::kWeights;
  static_assert(kWeights <= kMostWeights);
  auto* to = static_cast<Block*>(blocks);
  std::array<float, kMostWeights> w;
  for (std::int64_t begin = 0; begin < k; begin += kWeights) {
    if constexpr (kWeights > 1) {
      float squares = 0.0f;
      for (int i = 0; i < kWeights; ++i) squares += x[begin + i] * x[begin + i];
      const float mean = squares / static_cast<float>(kWeights);
      const float inverse = mean > 1e-30f ? 1.0f / mean : 0.0f;
      for (int i = 0; i < kWeights; ++i) {
        const float own = std::sqrt(1.0f + x[begin + i] * x[begin + i] * inverse);
        w[static_cast<std::size_t>(i)] = importance == nullptr ? own : own * importance[begin + i];
      }
    }
    encode(*to++, x + begin, w.data());
  }
}

constexpr std::array<EncodeRow, kNumFormats> kEncoders = {
#define RF_FORMAT(name, id, weights, bytes, Block, activation) &encode_row<Block>,
#include "quant/formats.def"
#undef RF_FORMAT
};

}  // namespace

EncodeRow row_encoder(Format format) { return kEncoders[static_cast<std::size_t>(format)]; }

void normalize_importance(float* values, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!(values[i] > 0.0f) || std::isinf(values[i])) values[i] = 0.0f;
    sum += values[i];
  }
  const double mean = sum / static_cast<double>(count);
  for (std::int64_t i = 0; i < count; ++i) {
    const float share = mean > 0 ? static_cast<float>(values[i] / mean) : 1.0f;
    values[i] = share > kImportanceFloor ? share : kImportanceFloor;
  }
}

}  // namespace rocmforge::quant
