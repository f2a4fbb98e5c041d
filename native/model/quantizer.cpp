#include "model/quantizer.hpp"

#include <atomic>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "quant/encode/encode.hpp"

namespace rocmforge {
namespace {

using quant::Format;

bool has_wide_range(Format f) { return f == Format::kF32 || f == Format::kBF16; }

bool fits(const float* x, std::int64_t k, float limit) {
  bool all = true;
  for (std::int64_t i = 0; i < k; ++i) all &= std::fabs(x[i]) <= limit;  // false for a NaN
  return all;
}

}  // namespace

void Quantizer::convert(void* out, Format to, const void* in, const RowSource& from,
                        std::int64_t rows, std::int64_t k, const float* importance) {
  std::vector<float> shares;
  if (importance != nullptr) {
    shares.assign(importance, importance + k);
    quant::normalize_importance(shares.data(), k);
  }
  const float* const known = importance == nullptr ? nullptr : shares.data();
  const float limit = has_wide_range(to) ? INFINITY : quant::kLargestWeight;
  const std::int64_t in_bytes = k / from.block_weights * from.block_bytes,
                     out_bytes = quant::row_bytes(to, k);
  const quant::EncodeRow encode = quant::row_encoder(to);
  std::vector<float> decoded(static_cast<std::size_t>(pool_.num_threads() * k));
  std::atomic<bool> sound{true};
  pool_.parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end, int thread) {
    float* const x = decoded.data() + thread * k;
    for (std::int64_t row = begin; row < end; ++row) {
      from.decode(x, static_cast<const std::uint8_t*>(in) + row * in_bytes, k);
      if (fits(x, k, limit))
        encode(static_cast<std::uint8_t*>(out) + row * out_bytes, x, known, k);
      else
        sound.store(false, std::memory_order_relaxed);
    }
  });
  if (!sound.load())
    throw Error(ErrorCode::kModelFile,
                has_wide_range(to) ? "a weight is not a number"
                                   : "a weight is not a number, or beyond 65504, the most that " +
                                         std::string(quant::info(to).name) + " can hold");
}

}  // namespace rocmforge
