// Which levels this build has and this machine can run.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "core/error.hpp"
#include "cpu/kernels.hpp"

using namespace rocmforge;

TEST_CASE("the machine's levels are the build's, slowest first, and no others can be had") {
  const auto built = cpu::built_isas(), available = cpu::available_isas();
  std::string names;
  for (const cpu::Isa isa : available) names += " " + std::string(cpu::name(isa));
  MESSAGE("levels of this machine:", names);
  REQUIRE(!available.empty());
  CHECK(built[0] == cpu::Isa::kScalar);
  CHECK(available[0] == cpu::Isa::kScalar);
  auto at = built.begin();
  for (const cpu::Isa isa : available) {
    at = std::find(at, built.end(), isa);
    REQUIRE(at != built.end());
    CHECK(cpu::kernels_for(isa).isa == isa);
  }
  for (const cpu::Isa isa : built)
    if (std::find(available.begin(), available.end(), isa) == available.end())
      CHECK_THROWS_AS(cpu::kernels_for(isa), Error);
}

TEST_CASE("a level brings its own products, which an overlay that is not installed would not") {
  const auto available = cpu::available_isas();
  const cpu::Kernels scalar = cpu::kernels_for(cpu::Isa::kScalar);
  for (std::size_t i = 1; i < available.size(); ++i) {
    const cpu::Kernels k = cpu::kernels_for(available[i]);
    const cpu::Kernels below = cpu::kernels_for(available[i - 1]);
    CAPTURE(std::string(cpu::name(k.isa)));
    bool complete = true, own = true;
    for (int f = 0; f < quant::kNumFormats; ++f) {
      complete &= k.dequantize[f] && k.linear_float[f] && k.panels.multiply[f];
      const bool quantized =
          quant::kFormats[static_cast<std::size_t>(f)].activation == quant::ActivationType::kQ8x32;
      own &= k.isa == cpu::Isa::kAmx
                 ? k.gemm.gemm[f] && (k.panels.multiply_tiles[f] != nullptr) == quantized
                 : k.panels.multiply[f] != below.panels.multiply[f];
    }
    CHECK(complete);
    CHECK(own);
    const bool vectors = k.attend[0] != scalar.attend[0] && k.rms_norm != scalar.rms_norm &&
                         k.quantize != scalar.quantize && k.sample.weights != scalar.sample.weights;
    CHECK(vectors);
  }
}
