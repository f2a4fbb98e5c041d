#include "quant/encode/fit.hpp"

#include <cstring>

#include "quant/small_floats.hpp"

namespace rocmforge::quant {
namespace {

// Four lanes: what every baseline has; sums over lanes are what a compiler may not reorder itself.
typedef float F4 __attribute__((vector_size(16)));  // a spelling that GCC and clang both take

F4 load(const float* p) {
  F4 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

float total(F4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }

// To the nearest integer in [low, high], for any v: adding 1.5 * 2^23 leaves no bits of a fraction.
F4 nearest(F4 v, float low, float high) {
  const F4 bottom = F4{} + low, top = F4{} + high, magic = F4{} + 0x1.8p23f;
  v = v > bottom ? v : bottom;
  v = v < top ? v : top;
  return (v + magic) - magic;
}

struct ScaleSums {
  float xq, qq;
};

ScaleSums scale_sums(const Group& g, float inverse, float low, float high) {
  F4 xq{}, qq{};
  for (int i = 0; i < g.n; i += 4) {
    const F4 x = load(g.x + i), w = load(g.w + i);
    const F4 q = nearest(x * inverse, low, high), wq = w * q;
    xq += wq * x;
    qq += wq * q;
  }
  return {total(xq), total(qq)};
}

struct AffineSums {
  float q, qq, xq;
};

AffineSums affine_sums(const Group& g, float m, float inverse, float high) {
  F4 sq{}, qq{}, xq{};
  for (int i = 0; i < g.n; i += 4) {
    const F4 x = load(g.x + i), w = load(g.w + i);
    const F4 q = nearest((x - m) * inverse, 0.0f, high), wq = w * q;
    sq += wq;
    qq += wq * q;
    xq += wq * x;
  }
  return {total(sq), total(qq), total(xq)};
}

constexpr int kIterations = 3;

}  // namespace

float fit_scale(const Group& g, int low, int high) {
  float extreme = 0.0f;
  for (int i = 0; i < g.n; ++i)
    if ((g.x[i] < 0 ? -g.x[i] : g.x[i]) > (extreme < 0 ? -extreme : extreme)) extreme = g.x[i];
  if ((extreme < 0 ? -extreme : extreme) < kSmallest) return 0.0f;
  const float bottom = static_cast<float>(low), top = static_cast<float>(high);
  // (sum w x q)^2 / sum w q^2 is what the best scale for these q takes off sum w x^2.
  float best = 0.0f, gain = 0.0f;
  const auto consider = [&](float inverse) {
    const ScaleSums s = scale_sums(g, inverse, bottom, top);
    if (!(s.qq > 0.0f) || !(s.xq * s.xq > gain * s.qq)) return false;
    gain = s.xq * s.xq / s.qq;
    best = s.xq / s.qq;
    return true;
  };
  for (int step = -9; step <= 9; ++step) {
    const float shift = 0.1f * static_cast<float>(step);
    consider((bottom + shift) / extreme);
    consider((top + shift) / extreme);
  }
  for (int i = 0; i < kIterations && best != 0.0f && consider(1.0f / best); ++i) {
  }
  return best;
}

Affine fit_affine(const Group& g, int high, bool min_only) {
  float least = g.x[0], most = g.x[0];
  double sw = 0, sx = 0;
  for (int i = 0; i < g.n; ++i) {
    least = g.x[i] < least ? g.x[i] : least;
    most = g.x[i] > most ? g.x[i] : most;
    sw += g.w[i];
    sx += static_cast<double>(g.w[i]) * g.x[i];
  }
  if (min_only && least > 0.0f) least = 0.0f;
  const float span = most - least;
  if (span < kSmallest) return {0.0f, least};
  const float top = static_cast<float>(high);
  Affine best{span / top, least};
  // What the solution takes off sum w x^2.
  double gain = -1e300;
  const auto consider = [&](float m, float inverse) {
    const AffineSums s = affine_sums(g, m, inverse, top);
    const double q = s.q, qq = s.qq, xq = s.xq;
    const double determinant = sw * qq - q * q;
    if (!(determinant > 1e-6 * sw * qq)) return false;  // one integer for all
    double d = (sw * xq - sx * q) / determinant;
    double offset = (qq * sx - q * xq) / determinant;
    if (min_only && offset > 0) {
      offset = 0;
      d = xq / qq;
    }
    if (!(d > 0)) return false;
    const double off =
        2 * (d * xq + offset * sx) - d * d * qq - 2 * d * offset * q - offset * offset * sw;
    if (!(off > gain)) return false;
    gain = off;
    best = {static_cast<float>(d), static_cast<float>(offset)};
    return true;
  };
  for (int step = -9; step <= 9; ++step)
    consider(least, (top + 0.1f * static_cast<float>(step)) / span);
  for (int i = 0; i < kIterations && consider(best.m, 1.0f / best.d); ++i) {
  }
  return best;
}

float assign(float* q, const Group& g, float d, float m, int low, int high) {
  const bool usable = d > kSmallest * 1e-3f || d < -kSmallest * 1e-3f;
  const float inverse = usable ? 1.0f / d : 0.0f;
  F4 error{};
  for (int i = 0; i < g.n; i += 4) {
    const F4 x = load(g.x + i);
    const F4 v = nearest((x - m) * inverse, static_cast<float>(low), static_cast<float>(high));
    const F4 miss = x - (v * d + m);
    error += load(g.w + i) * miss * miss;
    std::memcpy(q + i, &v, sizeof v);
  }
  return total(error);
}

std::uint16_t saturated_half(float scale) {
  constexpr float kLargest = 65504.0f;
  scale = scale > kLargest ? kLargest : scale;
  return float_to_half(scale < -kLargest ? -kLargest : scale);
}

}  // namespace rocmforge::quant
