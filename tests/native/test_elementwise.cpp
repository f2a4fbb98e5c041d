// Norm, activation, rope, cache stores and the quantization of activations at every level.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "cpu/kernels.hpp"

using namespace rocmforge;

namespace {

using Floats = std::vector<float>;
constexpr double kEps = 0x1p-23;
constexpr std::int64_t kLengths[] = {1, 3, 4, 7, 8, 15, 16, 17, 33, 100, 2048};

Floats normal(std::int64_t n, float scale, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0, scale);
  Floats x(static_cast<std::size_t>(n));
  for (float& v : x) v = value(random);
  return x;
}

// Whole blocks of 32 with what rounds in a special way.
Floats awkward(std::int64_t n, unsigned seed) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Floats x = normal(n, 1.0f, seed);
  const float special[] = {0.0f,  -0.0f,   0x1p-140f, 0x1.8p-130f, 65519.9f, 65520.0f, -65520.f,
                           1e-8f, 3.4e38f, kInfinity, -kInfinity,  NAN,      6.1e-5f,  6e-8f,
                           3e-8f, 1e30f,   1e-30f,    0x1.002p0f,  0.5f,     -127.f,   1e-42f};
  for (std::size_t i = 0; i + 32 <= x.size(); i += 32) x[i + seed % 32] = special[i / 32 % 21];
  return x;
}

template <class F>
void at_every_level(F f) {
  for (const cpu::Isa isa : cpu::available_isas()) {
    CAPTURE(std::string(cpu::name(isa)));
    f(cpu::kernels_for(isa));
  }
}

}  // namespace

TEST_CASE("the norm matches float64 at every level") {
  at_every_level([](const cpu::Kernels& k) {
    for (const std::int64_t n : kLengths) {
      const Floats x = normal(n, 3.0f, 1), weight = normal(n, 1.0f, 2);
      Floats y(x.size());
      k.rms_norm(y.data(), x.data(), weight.data(), n, 1e-5f);
      double squares = 0;
      for (const float v : x) squares += double(v) * v;
      bool close = true;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double expected = x[i] / std::sqrt(squares / double(n) + 1e-5f) * weight[i];
        // A sum of n positive terms, half of whose error reaches the root, and six roundings.
        close &= std::abs(y[i] - expected) <= (double(n) / 2 + 6) * kEps * std::abs(expected);
      }
      CHECK(close);
    }
  });
}

TEST_CASE("silu matches float64, saturates and keeps a NaN in its lane at every level") {
  at_every_level([](const cpu::Kernels& k) {
    for (const std::int64_t n : kLengths) {
      Floats gate = normal(n, 30.0f, 3);
      if (n > 8) gate[3] = 1000.0f, gate[5] = -1000.0f, gate[6] = -3e38f, gate[7] = 3e38f;
      const Floats up = normal(n, 1.0f, 4);
      Floats y(gate.size());
      if (n > 8) gate[4] = NAN;
      k.silu_mul(y.data(), gate.data(), up.data(), n);
      bool close = true;
      for (std::size_t i = 0; i < gate.size(); ++i) {
        const double expected = gate[i] / (1 + std::exp(-double(gate[i]))) * up[i];
        // An exponential is good to 4 eps; an addition, a division and a product round once each.
        // Below -87 it becomes infinite, and the quotient zero.
        close &= std::isnan(gate[i])
                     ? std::isnan(y[i])
                     : std::abs(y[i] - expected) <= 8 * kEps * std::abs(expected) + 1e-35;
      }
      CHECK(close);
    }
  });
}

TEST_CASE("rope turns pairs and leaves the rest at every level") {
  at_every_level([](const cpu::Kernels& k) {
    for (const bool interleaved : {false, true})
      for (const std::int64_t rotary : {2, 18, 64}) {
        const Floats x = normal(80, 1.0f, 5), angles = normal(rotary / 2, 1.0f, 6);
        Floats y = x, cosines, sines;
        for (const float a : angles) cosines.push_back(std::cos(a)), sines.push_back(std::sin(a));
        k.rope(y.data(), cosines.data(), sines.data(), rotary, interleaved);
        bool close = true;
        for (std::int64_t i = 0; i < 80; ++i) {
          const auto at = static_cast<std::size_t>(i);
          double expected = x[at];
          if (i < rotary) {
            const bool second = interleaved ? i % 2 == 1 : i >= rotary / 2;
            const std::size_t pair =
                static_cast<std::size_t>(interleaved ? i / 2 : i % (rotary / 2));
            const std::size_t other = interleaved ? at ^ 1 : (second ? pair : pair + angles.size());
            expected = double(x[at]) * cosines[pair] +
                       double(x[other]) * sines[pair] * (second ? 1.0 : -1.0);
          }
          close &= std::abs(y[at] - expected) <= (i < rotary ? 12 * kEps : 0);  // |x| < 4
        }
        CHECK(close);
      }
  });
}

TEST_CASE("every level adds and stores cache rows with the bits of the scalar one") {
  const cpu::Kernels scalar = cpu::kernels_for(cpu::Isa::kScalar);
  at_every_level([&](const cpu::Kernels& k) {
    for (const std::int64_t n : {1, 3, 4, 13, 32, 96, 672, 2048}) {
      const Floats x = awkward(n, static_cast<unsigned>(n));
      Floats sum = normal(n, 1.0f, 7), expected_sum = sum;
      k.add(sum.data(), x.data(), n);
      scalar.add(expected_sum.data(), x.data(), n);
      bool same = true;
      for (std::size_t i = 0; i < x.size(); ++i)
        same &= sum[i] == expected_sum[i] || (std::isnan(sum[i]) && std::isnan(expected_sum[i]));
      CHECK(same);
      for (int type = 0; type < kNumKvTypes; ++type) {
        const auto kv = static_cast<KvType>(type);
        if (kv == KvType::kQ8_0 && n % 32 != 0) continue;
        const auto bytes = static_cast<std::size_t>(kv_row_bytes(kv, n));
        std::vector<unsigned char> row(bytes), expected(bytes);
        // The bits of a NaN are a processor's own.
        Floats finite = x;
        for (float& v : finite) v = std::isnan(v) ? 1.0f : v;
        k.store_kv[type](row.data(), finite.data(), n);
        scalar.store_kv[type](expected.data(), finite.data(), n);
        CHECK(std::memcmp(row.data(), expected.data(), bytes) == 0);
      }
    }
  });
}

TEST_CASE("every level quantizes activations to the same bytes, within half a step") {
  const cpu::Kernels scalar = cpu::kernels_for(cpu::Isa::kScalar);
  constexpr std::int64_t kBlocks = 300;
  Floats x = awkward(kBlocks * 32, 8);
  // Ties: whole and half steps of a block whose largest is 127.
  for (int i = 0; i < 32; ++i) x[static_cast<std::size_t>(i)] = float(i - 16) + 0.5f;
  x[31] = 127.0f;
  std::vector<quant::BlockQ8x32> expected(kBlocks);
  scalar.quantize(expected.data(), 1, x.data(), kBlocks * 32);
  at_every_level([&](const cpu::Kernels& k) {
    std::vector<quant::BlockQ8x32> blocks(2 * kBlocks);
    k.quantize(blocks.data(), 2, x.data(), kBlocks * 32);
    bool same = true, close = true;
    for (std::size_t b = 0; b < kBlocks; ++b) {
      const quant::BlockQ8x32& block = blocks[2 * b];
      const bool invalid = std::isnan(block.d) && std::isnan(expected[b].d);
      same &= std::memcmp(&block.sums, &expected[b].sums, sizeof block - sizeof(float)) == 0;
      same &= invalid || std::memcmp(&block.d, &expected[b].d, sizeof(float)) == 0;
      for (std::size_t i = 0; i < 32; ++i)
        close &=
            invalid || block.d == 0.0f ||
            std::abs(x[32 * b + i] - double(block.d) * block.qs[i]) <= block.d * (0.5 + 0x1p-15);
    }
    CHECK(same);
    CHECK(close);
  });
}
