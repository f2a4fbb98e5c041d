// One block: `x` its weights, `w` how much the square of each error counts. Every block struct of
// formats.def has an overload here.
#pragma once

#include "quant/blocks.hpp"

namespace rocmforge::quant {

void encode(BlockF32& b, const float* x, const float* w);
void encode(BlockF16& b, const float* x, const float* w);
void encode(BlockBF16& b, const float* x, const float* w);
void encode(BlockQ4_0& b, const float* x, const float* w);
void encode(BlockQ4_1& b, const float* x, const float* w);
void encode(BlockQ5_0& b, const float* x, const float* w);
void encode(BlockQ5_1& b, const float* x, const float* w);
void encode(BlockQ8_0& b, const float* x, const float* w);
void encode(BlockIQ4_NL& b, const float* x, const float* w);
void encode(BlockMXFP4& b, const float* x, const float* w);
void encode(BlockQ2_K& b, const float* x, const float* w);
void encode(BlockQ3_K& b, const float* x, const float* w);
void encode(BlockQ4_K& b, const float* x, const float* w);
void encode(BlockQ5_K& b, const float* x, const float* w);
void encode(BlockQ6_K& b, const float* x, const float* w);
void encode(BlockIQ4_XS& b, const float* x, const float* w);

}  // namespace rocmforge::quant
