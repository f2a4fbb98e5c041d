#include "quant/encode/tables.hpp"

#include <array>
#include <cmath>

#include "quant/blocks.hpp"

namespace rocmforge::quant {
namespace {

// The nearest entry of IQ4's table by the floor of twice the value, from -256 on: the middles
// between entries are multiples of a half, so no entry of this holds two answers.
constexpr int kHalves = 512;
constexpr std::array<std::uint8_t, kHalves> kNearestIq4 = [] {
  std::array<std::uint8_t, kHalves> nearest{};
  for (int i = 0; i < kHalves; ++i) {
    const int quadrupled = 2 * (i - kHalves / 2) + 1;  // four times the middle of the interval
    int code = 0;
    while (code < 15 && 2 * (iq4_value(code) + iq4_value(code + 1)) < quadrupled) ++code;
    nearest[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(code);
  }
  return nearest;
}();

int nearest_iq4(float v) {
  v = v > -127.0f ? v : -127.0f;
  v = v < 127.0f ? v : 127.0f;
  return kNearestIq4[static_cast<std::size_t>(static_cast<int>(2.0f * v + 256.0f))];
}

// Thresholds between the magnitudes 0, 0.5, 1, 1.5, 2, 3, 4 and 6 of E2M1, ties to the even code.
unsigned nearest_e2m1(float v) {
  const float a = std::fabs(v);
  const unsigned magnitude = (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) +
                             (a >= 3.5f) + (a > 5.0f);
  return magnitude | (v < 0.0f && magnitude != 0 ? 8u : 0u);
}

}  // namespace

float fit_iq4_scale(const Group& g) {
  float extreme = 0.0f;
  for (int i = 0; i < g.n; ++i)
    if (std::fabs(g.x[i]) > std::fabs(extreme)) extreme = g.x[i];
  if (std::fabs(extreme) < kSmallest) return 0.0f;
  float best = 0.0f, gain = 0.0f;
  const auto consider = [&](float inverse) {
    float xq = 0.0f, qq = 0.0f;
    for (int i = 0; i < g.n; ++i) {
      const float q = static_cast<float>(iq4_value(nearest_iq4(g.x[i] * inverse)));
      xq += g.w[i] * g.x[i] * q;
      qq += g.w[i] * q * q;
    }
    if (!(xq * xq > gain * qq)) return false;
    gain = xq * xq / qq;
    best = xq / qq;
    return true;
  };
  for (int step = -8; step <= 8; ++step) {
    const float shift = 2.0f * static_cast<float>(step);
    consider((-127.0f + shift) / extreme);
    consider((113.0f + shift) / extreme);
  }
  for (int i = 0; i < 3 && best != 0.0f && consider(1.0f / best); ++i) {
  }
  return best;
}

float assign_iq4(std::uint8_t* codes, const Group& g, float d) {
  const float inverse = std::fabs(d) > 1e-3f * kSmallest ? 1.0f / d : 0.0f;
  float error = 0.0f;
  for (int i = 0; i < g.n; ++i) {
    const int code = nearest_iq4(g.x[i] * inverse);
    const float miss = g.x[i] - d * static_cast<float>(iq4_value(code));
    codes[i] = static_cast<std::uint8_t>(code);
    error += g.w[i] * miss * miss;
  }
  return error;
}

std::uint8_t fit_mxfp4(std::uint8_t* codes, const Group& g) {
  float largest = 0.0f;
  for (int i = 0; i < g.n; ++i) largest = std::fmax(largest, std::fabs(g.x[i]));
  if (largest == 0.0f) {
    for (int i = 0; i < g.n; ++i) codes[i] = 0;
    return 0;
  }
  // At the usual exponent the largest weight is in [4, 8) units, of which E2M1 ends at 6.
  const int usual = std::ilogb(largest) - 2 + 127;
  float least = INFINITY;
  int best = 0;
  for (int e = usual - 1; e <= usual + 1; ++e) {
    if (e < 0 || e > 254) continue;
    const float unit = std::ldexp(1.0f, e - 127);
    float error = 0.0f;
    for (int i = 0; i < g.n; ++i) {
      const float v = std::ldexp(g.x[i], 127 - e);
      const float miss =
          v - 0.5f * static_cast<float>(e2m1_doubled(static_cast<int>(nearest_e2m1(v))));
      error += g.w[i] * miss * miss;
    }
    error *= unit / largest * (unit / largest);
    if (error < least) {
      least = error;
      best = e;
    }
  }
  for (int i = 0; i < g.n; ++i)
    codes[i] = static_cast<std::uint8_t>(nearest_e2m1(std::ldexp(g.x[i], 127 - best)));
  return static_cast<std::uint8_t>(best);
}

}  // namespace rocmforge::quant
