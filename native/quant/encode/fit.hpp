// The search of scales for a group of weights, by weighted squared error: candidates around the
// scale that just reaches the largest weight, each with the least squares solution for the integers
// it gives, then integers and scales in turn until neither changes (Lloyd's iteration).
#pragma once

#include <cstdint>

namespace rocmforge::quant {

constexpr int kMaxGroup = 32;

// `n` weights x, a multiple of 4 and at most kMaxGroup, and how much the square of each error
// counts.
struct Group {
  const float* x;
  const float* w;
  int n;
};

// Below this no weight of a group has a binary16 scale other than 0 in any format.
constexpr float kSmallest = 1e-9f;

// x ~ d * q with q in [low, high]; 0 where all x are.
float fit_scale(const Group& g, int low, int high);

struct Affine {
  float d, m;
};
// x ~ d * q + m with q in [0, high]; `m` is at most 0 where the format stores a min to subtract.
Affine fit_affine(const Group& g, int high, bool min_only);

// The best integers for given scales, and their error: the sum of w * (x - d * q - m)^2.
float assign(float* q, const Group& g, float d, float m, int low, int high);

// Binary16 of a scale that a solution has put beyond the largest: that one, not infinity.
std::uint16_t saturated_half(float scale);

}  // namespace rocmforge::quant
