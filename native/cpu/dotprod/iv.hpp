// Iv and Dot (cpu/panel/multiply_body.hpp) of NEON with dot products.
#pragma once

#include "cpu/dotprod/dot.hpp"

namespace rocmforge::cpu {
namespace {

struct Iv : DotLanes {
  static constexpr int kManyGroup = 3;  // times two units: 12 sums of integers, 12 of floats
};

}  // namespace
}  // namespace rocmforge::cpu
