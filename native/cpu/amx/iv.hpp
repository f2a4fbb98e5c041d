// Iv (cpu/panel/multiply_body.hpp) of the AMX units, whose tiles multiply signed bytes.
#pragma once

#include "cpu/avx512/lanes.hpp"

namespace rocmforge::cpu {
namespace {

struct Iv : Avx512Lanes {
  static constexpr bool kSignedBytes = true;
};

}  // namespace
}  // namespace rocmforge::cpu
