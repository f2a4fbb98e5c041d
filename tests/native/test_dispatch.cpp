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
