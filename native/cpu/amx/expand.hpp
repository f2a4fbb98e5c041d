// Panels (cpu/panel/layout.hpp) to bfloat16, a group at a time: four weights of 16 rows become two
// rows of a tile, [16 rows][2 of k] each.
//
// A weight is computed in float32 as in quant::decode, except that a multiplication and an addition
// may be fused, and rounded to bfloat16 to nearest even.
#pragma once

#include "cpu/amx/round.hpp"
#include "cpu/avx512/iv.hpp"
#include "cpu/panel/store_groups.hpp"
// Uses Iv and store_groups.
#include "cpu/panel/steps.hpp"

namespace rocmforge::cpu {
namespace {

struct TileRows {
  __m512i first, second;
};

// What the groups of a step share, in memory: scale * integer + offset, a row a lane.
template <class P>
struct GroupScales {
  __m512 scale[P::kNumScales];
  __m512 offset[P::kNumScales];

  // The step at `step` of the chunk that begins at `chunk`.
  [[gnu::always_inline]] void prepare(const std::uint8_t* chunk, const std::uint8_t* step) {
    const StepScales<P> s = scales_at<P>(chunk, step, 0);
    for (int i = 0; i < P::kNumScales; ++i) {
      scale[i] = s.scale[i];
      if constexpr (P::kHasMin)
        offset[i] = Iv::negated(s.min[i]);
      else  // exact: kBias is a power of two
        offset[i] = _mm512_mul_ps(s.scale[i], _mm512_set1_ps(-P::kBias));
    }
  }
};

template <class Block, int g>
[[gnu::always_inline]] inline TileRows group_at(const GroupScales<PanelOf<Block>>& scales,
                                                const std::uint8_t* step) {
  using P = PanelOf<Block>;
  constexpr int kScale = g * P::kNumScales / 8;
  const __m512i integers = integers_at<P, g>(step);
  const __m512i byte = _mm512_set1_epi32(0xff);
  const auto weights = [&](__m512i v) __attribute__((always_inline)) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(v), scales.scale[kScale], scales.offset[kScale]);
  };
  return {rounded(weights(_mm512_and_si512(integers, byte)),
                  weights(_mm512_and_si512(_mm512_srli_epi32(integers, 8), byte))),
          rounded(weights(_mm512_and_si512(_mm512_srli_epi32(integers, 16), byte)),
                  weights(_mm512_srli_epi32(integers, 24)))};
}

// Rows of 16 values, one a weight.
template <class Block, int g>
[[gnu::always_inline]] inline TileRows float_group_at(const std::uint8_t* step) {
  const auto* p = reinterpret_cast<const Block*>(step) + 4 * g * kPanelRows;
  return {rounded(Iv::values(p), Iv::values(p + kPanelRows)),
          rounded(Iv::values(p + 2 * kPanelRows), Iv::values(p + 3 * kPanelRows))};
}

}  // namespace
}  // namespace rocmforge::cpu
