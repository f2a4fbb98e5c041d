// K-quants and IQ4_XS: 256 weights whose groups have integer scales (and mins) of a common one.
//
// Groups are fitted on their own, the common scale follows from the largest of them, and then each
// group takes the best of the integer scales beside the rounded one with the integers of its
// weights chosen anew. At last the common scales are solved for, given all integers, and kept if
// the error is smaller.
#include <cmath>
#include <cstring>

#include "quant/encode/encode_block.hpp"
#include "quant/encode/fit.hpp"
#include "quant/encode/tables.hpp"

namespace rocmforge::quant {
namespace {

constexpr int kWeights = 256;

int clamped(float v, int low, int high) {
  const long rounded = std::lround(std::fmin(std::fmax(v, -1e6f), 1e6f));
  return static_cast<int>(rounded < low ? low : rounded > high ? high : rounded);
}

float ratio(float a, float b) { return b == 0.0f ? 0.0f : a / b; }

// x ~ d * scale[g] * q - dmin * min[g]
template <int kSize, int kHigh, int kHighScale>
struct WithMins {
  static constexpr int kGroups = kWeights / kSize;
  float q[kWeights] = {};
  int scale[kGroups] = {}, min[kGroups] = {};
  std::uint16_t d, dmin;

  WithMins(const float* x, const float* w) {
    Affine fits[kGroups];
    float most_d = 0.0f, most_min = 0.0f;
    for (int g = 0; g < kGroups; ++g) {
      fits[g] = fit_affine({x + g * kSize, w + g * kSize, kSize}, kHigh, true);
      most_d = std::fmax(most_d, fits[g].d);
      most_min = std::fmax(most_min, -fits[g].m);
    }
    d = saturated_half(most_d / kHighScale);
    dmin = saturated_half(most_min / kHighScale);
    const float step = half_to_float(d), min_step = half_to_float(dmin);
    float error = 0.0f;
    for (int g = 0; g < kGroups; ++g)
      error += choose(g, x, w, clamped(ratio(fits[g].d, step), 0, kHighScale),
                      clamped(ratio(-fits[g].m, min_step), 0, kHighScale));
    solve(x, w, error);
  }

 private:
  float choose(int g, const float* x, const float* w, int near_scale, int near_min) {
    const Group group{x + g * kSize, w + g * kSize, kSize};
    const float step = half_to_float(d), min_step = half_to_float(dmin);
    float least = INFINITY, trial[kSize];
    for (int s = near_scale - 1; s <= near_scale + 1; ++s) {
      for (int m = near_min - 1; m <= near_min + 1; ++m) {
        if (s < 0 || s > kHighScale || m < 0 || m > kHighScale) continue;
        const float error = assign(trial, group, step * static_cast<float>(s),
                                   -(min_step * static_cast<float>(m)), 0, kHigh);
        if (!(error < least)) continue;
        least = error;
        scale[g] = s;
        min[g] = m;
        std::memcpy(q + g * kSize, trial, sizeof trial);
      }
    }
    return least;
  }

  // Least squares over (d, dmin) for x ~ d * a - dmin * b.
  void solve(const float* x, const float* w, float error) {
    double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (int i = 0; i < kWeights; ++i) {
      const double a = q[i] * static_cast<float>(scale[i / kSize]), b = min[i / kSize];
      aa += w[i] * a * a;
      ab += w[i] * a * b;
      bb += w[i] * b * b;
      xa += static_cast<double>(w[i]) * x[i] * a;
      xb += static_cast<double>(w[i]) * x[i] * b;
    }
    const double determinant = aa * bb - ab * ab;
    if (!(determinant > 1e-9 * aa * bb)) return;
    const double solved = (xa * bb - xb * ab) / determinant;
    const double solved_min = (xa * ab - xb * aa) / determinant;
    if (!(solved > 0) || !(solved_min >= 0)) return;
    WithMins other = *this;
    other.d = saturated_half(static_cast<float>(solved));
    other.dmin = saturated_half(static_cast<float>(solved_min));
    float total = 0.0f;
    for (int g = 0; g < kGroups; ++g) total += other.choose(g, x, w, scale[g], min[g]);
    if (total < error) *this = other;
  }
};

// x ~ d * scale[g] * q, scales of both signs.
template <int kSize, int kLow, int kHigh, int kLowScale, int kHighScale>
struct WithoutMins {
  static constexpr int kGroups = kWeights / kSize;
  float q[kWeights] = {};
  int scale[kGroups] = {};
  std::uint16_t d;

  WithoutMins(const float* x, const float* w) {
    float fits[kGroups], extreme = 0.0f;
    for (int g = 0; g < kGroups; ++g) {
      fits[g] = fit_scale({x + g * kSize, w + g * kSize, kSize}, kLow, kHigh);
      if (std::fabs(fits[g]) > std::fabs(extreme)) extreme = fits[g];
    }
    d = saturated_half(extreme / kLowScale);
    float error = 0.0f;
    for (int g = 0; g < kGroups; ++g)
      error += choose(g, x, w, clamped(ratio(fits[g], half_to_float(d)), kLowScale, kHighScale));
    solve(x, w, error);
  }

 private:
  float choose(int g, const float* x, const float* w, int near_scale) {
    const Group group{x + g * kSize, w + g * kSize, kSize};
    float least = INFINITY, trial[kSize];
    for (int s = near_scale - 1; s <= near_scale + 1; ++s) {
      if (s < kLowScale || s > kHighScale) continue;
      const float error =
          assign(trial, group, half_to_float(d) * static_cast<float>(s), 0.0f, kLow, kHigh);
      if (!(error < least)) continue;
      least = error;
      scale[g] = s;
      std::memcpy(q + g * kSize, trial, sizeof trial);
    }
    return least;
  }

  void solve(const float* x, const float* w, float error) {
    double aa = 0, xa = 0;
    for (int i = 0; i < kWeights; ++i) {
      const double a = q[i] * static_cast<float>(scale[i / kSize]);
      aa += w[i] * a * a;
      xa += static_cast<double>(w[i]) * x[i] * a;
    }
    if (!(aa > 0)) return;
    WithoutMins other = *this;
    other.d = saturated_half(static_cast<float>(xa / aa));
    float total = 0.0f;
    for (int g = 0; g < kGroups; ++g) total += other.choose(g, x, w, scale[g]);
    if (total < error) *this = other;
  }
};

unsigned code(float q) { return static_cast<unsigned>(static_cast<int>(q)); }

void put_crumb(std::uint8_t* qs, int i, unsigned value) {
  qs[i / 128 * 32 + i % 32] |= static_cast<std::uint8_t>((value & 3u) << (i % 128 / 32 * 2));
}

void put_nibble(std::uint8_t* qs, int i, unsigned value) {
  qs[i / 64 * 32 + i % 32] |= static_cast<std::uint8_t>((value & 15u) << (i % 64 / 32 * 4));
}

// The eight 6-bit scales and mins of Q4_K and Q5_K, as scale_6bit() and min_6bit() read them.
void put_6bit(std::uint8_t* s, const int* scale, const int* min) {
  for (int j = 0; j < 4; ++j) {
    s[j] = static_cast<std::uint8_t>(scale[j] | scale[j + 4] >> 4 << 6);
    s[j + 4] = static_cast<std::uint8_t>(min[j] | min[j + 4] >> 4 << 6);
    s[j + 8] = static_cast<std::uint8_t>((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
  }
}

}  // namespace

void encode(BlockQ2_K& b, const float* x, const float* w) {
  const WithMins<16, 3, 15> fit(x, w);
  b = {};
  b.d = fit.d;
  b.dmin = fit.dmin;
  for (int g = 0; g < 16; ++g)
    b.scales[g] = static_cast<std::uint8_t>(fit.scale[g] | fit.min[g] << 4);
  for (int i = 0; i < kWeights; ++i) put_crumb(b.qs, i, code(fit.q[i]));
}

void encode(BlockQ3_K& b, const float* x, const float* w) {
  const WithoutMins<16, -4, 3, -32, 31> fit(x, w);
  b = {};
  b.d = fit.d;
  for (int g = 0; g < 16; ++g) {
    const int s = fit.scale[g] + 32;
    b.scales[g % 8] |= static_cast<std::uint8_t>((s & 15) << (g / 8 * 4));
    b.scales[8 + g % 4] |= static_cast<std::uint8_t>(s >> 4 << (g / 4 * 2));
  }
  for (int i = 0; i < kWeights; ++i) {
    const unsigned q = code(fit.q[i] + 4.0f);
    put_crumb(b.qs, i, q);
    b.hmask[i % 32] |= static_cast<std::uint8_t>((q >> 2) << (i / 32));
  }
}

void encode(BlockQ4_K& b, const float* x, const float* w) {
  const WithMins<32, 15, 63> fit(x, w);
  b = {};
  b.d = fit.d;
  b.dmin = fit.dmin;
  put_6bit(b.scales, fit.scale, fit.min);
  for (int i = 0; i < kWeights; ++i) put_nibble(b.qs, i, code(fit.q[i]));
}

void encode(BlockQ5_K& b, const float* x, const float* w) {
  const WithMins<32, 31, 63> fit(x, w);
  b = {};
  b.d = fit.d;
  b.dmin = fit.dmin;
  put_6bit(b.scales, fit.scale, fit.min);
  for (int i = 0; i < kWeights; ++i) {
    put_nibble(b.qs, i, code(fit.q[i]));
    b.qh[i % 32] |= static_cast<std::uint8_t>((code(fit.q[i]) >> 4) << (i / 32));
  }
}

void encode(BlockQ6_K& b, const float* x, const float* w) {
  const WithoutMins<16, -32, 31, -128, 127> fit(x, w);
  b = {};
  b.d = fit.d;
  for (int g = 0; g < 16; ++g) b.scales[g] = static_cast<std::int8_t>(fit.scale[g]);
  for (int i = 0; i < kWeights; ++i) {
    const unsigned q = code(fit.q[i] + 32.0f);
    b.ql[i / 128 * 64 + i % 64] |= static_cast<std::uint8_t>((q & 15u) << (i % 128 / 64 * 4));
    put_crumb(b.qh, i, q >> 4);
  }
}

void encode(BlockIQ4_XS& b, const float* x, const float* w) {
  constexpr int kGroups = 8;
  b = {};
  float fits[kGroups], extreme = 0.0f;
  for (int g = 0; g < kGroups; ++g) {
    fits[g] = fit_iq4_scale({x + g * 32, w + g * 32, 32});
    if (std::fabs(fits[g]) > std::fabs(extreme)) extreme = fits[g];
  }
  b.d = saturated_half(extreme / -32.0f);
  const float d = half_to_float(b.d);
  for (int g = 0; g < kGroups; ++g) {
    const int near = clamped(ratio(fits[g], d), -32, 31);
    std::uint8_t codes[32] = {}, trial[32];
    float least = INFINITY;
    int scale = 0;
    for (int s = near - 1; s <= near + 1; ++s) {
      if (s < -32 || s > 31) continue;
      const float error =
          assign_iq4(trial, {x + g * 32, w + g * 32, 32}, d * static_cast<float>(s));
      if (!(error < least)) continue;
      least = error;
      scale = s + 32;
      std::memcpy(codes, trial, sizeof codes);
    }
    b.scales_l[g / 2] |= static_cast<std::uint8_t>((scale & 15) << (g % 2 * 4));
    b.scales_h = static_cast<std::uint16_t>(b.scales_h | scale >> 4 << (g * 2));
    for (int i = 0; i < 16; ++i)
      b.qs[g * 16 + i] = static_cast<std::uint8_t>(codes[i] | codes[i + 16] << 4);
  }
}

}  // namespace rocmforge::quant
