// Cosines and sines of position * inv_freq for the tokens of a step. In double, as a float product
// is off by a radian at position 2^24; by own arithmetic, so that every device gets the same bits.
#include "include/gpu.hpp"

namespace rocmforge::gpu {
namespace {

struct CosSin {
  double cos, sin;
};

// |angle| < 2^31 * pi / 2. The remainder after whole quarter turns is off by less than 2^-52 of
// their number; the Taylor series of it, |r| <= pi / 4, end below 2^-53.
RF_DEVICE CosSin cos_sin(double angle) {
  constexpr double kQuarter = 1.5707963267948966, kQuarterRest = 6.123233995736766e-17;
  const double quarters = round_to_even(angle * 0.6366197723675814);
  const double r = fma(-quarters, kQuarterRest, fma(-quarters, kQuarter, angle));
  const double r2 = r * r;
  double sin = 1.0, cos = 1.0;  // Horner: 1 - r2 / (n (n + 1)) * (...)
  for (int n = 16; n >= 2; n -= 2) sin = fma(r2 * (-1.0 / (n * (n + 1))), sin, 1.0);
  for (int n = 15; n >= 1; n -= 2) cos = fma(r2 * (-1.0 / (n * (n + 1))), cos, 1.0);
  sin *= r;
  switch (static_cast<std::int64_t>(quarters) & 3) {
    case 0:
      return {cos, sin};
    case 1:
      return {-sin, cos};
    case 2:
      return {-cos, -sin};
    default:
      return {sin, -cos};
  }
}

template <int kWave>
RF_DEVICE void rope_angles(const RopeAnglesArgs& a) {
  const std::int64_t t = block_x();
  const int i = block_y() * kThreads + thread_index();
  if (t >= *a.num_tokens || i >= a.half) return;
  const CosSin v = cos_sin(static_cast<double>(a.inv_freq[i]) * a.positions[t]);
  a.cos[t * a.half + i] = static_cast<float>(v.cos) * a.magnitude;
  a.sin[t * a.half + i] = static_cast<float>(v.sin) * a.magnitude;
}

}  // namespace

RF_KERNEL_WAVES(rope_angles, RopeAnglesArgs, rope_angles)
RF_EXPECT("rope_angles", 48)

}  // namespace rocmforge::gpu
