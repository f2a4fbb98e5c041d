// Expanded codes group by group, as most units read them, over the Iv of the including ISA unit.
#pragma once

#include <cstdint>

#include "cpu/unrolled.hpp"

namespace rocmforge::cpu {
namespace {

// Writes the eight groups of a unit's step, groups(g), one after another.
template <class Groups>
[[gnu::always_inline]] inline void store_groups(std::uint8_t (*to)[4 * Iv::kLanes], Groups groups) {
  unrolled<8>([&]<int g>() { Iv::store(to[g], groups.template operator()<g>()); });
}

}  // namespace
}  // namespace rocmforge::cpu
