// From float rows to the blocks of a weight format. Errors are squared and weighted: by x^2 and the
// mean square of its block (large weights matter more than their share), times the importance of a
// column where one is known: the mean square of the activations that meet it.
#pragma once

#include <cstdint>

#include "quant/formats.hpp"

namespace rocmforge::quant {

// The largest weight that every format but F32 and BF16 can hold: their scales are binary16.
constexpr float kLargestWeight = 65504.0f;

// `x` holds k finite weights, a whole number of blocks, of magnitudes that the format can hold;
// `importance` k numbers of mean 1, none of them 0, or nullptr.
using EncodeRow = void (*)(void* blocks, const float* x, const float* importance, std::int64_t k);

EncodeRow row_encoder(Format format);

// `count` raw mean squares into what EncodeRow takes: mean 1, and a floor so that no column,
// however silent, is lost. Negative values and NaN count as 0; without a positive one, all
// become 1.
void normalize_importance(float* values, std::int64_t count);

}  // namespace rocmforge::quant
