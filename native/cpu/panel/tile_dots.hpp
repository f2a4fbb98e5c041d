// TileDots (multiply_body.hpp) of instruction sets that multiply vectors: the dots of a tile of
// expanded codes with C columns, over the Iv and Dot of the including ISA unit.
#pragma once

#include <cstdint>

#include "cpu/panel/store_groups.hpp"
#include "cpu/unrolled.hpp"
#include "quant/activations.hpp"

namespace rocmforge::cpu {
namespace {

template <int kUnits, int kBias, int kMaxCode, int kGroups, int C>
struct TileDots {
  Dot<kMaxCode, kGroups> dots[kUnits][C];

  // Of the i-th scale of a step. A word of activations meets all units before the next one is
  // loaded: with a load for each product the load ports are the limit.
  template <int i>
  [[gnu::always_inline]] void compute(const std::uint8_t (*w)[8][4 * Iv::kLanes],
                                      const quant::BlockQ8x32* x) {
    unrolled<C>([&]<int c>() __attribute__((always_inline)) {
      unrolled<kUnits>(
          [&]<int u>() { dots[u][c].template start<kBias>(x[c].offsets[kGroups == 8 ? 2 : i]); });
    });
    unrolled<kGroups>([&]<int j>() __attribute__((always_inline)) {
      Iv::Bytes integers[kUnits];
      unrolled<kUnits>([&]<int u>() __attribute__((always_inline)) {
        integers[u] = Iv::load(w[u][i * kGroups + j]);
      });
      unrolled<C>([&]<int c>() __attribute__((always_inline)) {
        const Iv::Word word = Iv::word<j>(x[c].qs + 4 * (i * kGroups + j));
        unrolled<kUnits>([&]<int u>() __attribute__((always_inline)) {
          dots[u][c].template add<j>(integers[u], word);
        });
      });
    });
  }
  template <int u, int c>
  [[gnu::always_inline]] Iv::Ints dot() const {
    return dots[u][c].finish();
  }
};

}  // namespace
}  // namespace rocmforge::cpu
