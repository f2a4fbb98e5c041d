// Loops whose index is a constant.
#pragma once

namespace rocmforge::cpu {
namespace {

// Calls f<0>() .. f<kCount - 1>().
template <int kCount, int kStep = 0, class F>
[[gnu::always_inline]] inline void unrolled(F f) {
  if constexpr (kStep < kCount) {
    f.template operator()<kStep>();
    unrolled<kCount, kStep + 1>(f);
  }
}

}  // namespace
}  // namespace rocmforge::cpu
