// Panels of the float formats times columns of floats, written over the Iv of the including ISA
// unit: one fused multiply-add per weight and column. The sums of a chunk start from zero, so
//   |error| <= (256 + k / 256 + 2) * 2^-24 * sum |w| |x|.
#pragma once

#include "cpu/panel/multiply_body.hpp"

namespace rocmforge::cpu {
namespace {

template <class Block, int U, int C>
[[gnu::noinline]] void float_tile(Iv::Floats* sums, const std::uint8_t* const* panels,
                                  const float* x, std::int64_t n) {
  Iv::Floats s[U][C];
  unrolled<U>([&]<int u>() { unrolled<C>([&]<int c>() { s[u][c] = Iv::zero(); }); });
  const std::uint8_t* w[U];
  for (int u = 0; u < U; ++u)
    w[u] = panels[u] + u % kHalves * Iv::kLanes * static_cast<int>(sizeof(Block));
  for (std::int64_t i = 0; i < n; ++i, x += C) {
    unrolled<U>([&]<int u>() {
      const Iv::Floats weights = Iv::values(reinterpret_cast<const Block*>(w[u]) + i * kPanelRows);
      unrolled<C>([&]<int c>() { s[u][c] = Iv::fma(weights, Iv::set(x + c), s[u][c]); });
    });
  }
  unrolled<U>([&]<int u>() {
    unrolled<C>([&]<int c>() { sums[u * C + c] = Iv::add(sums[u * C + c], s[u][c]); });
  });
}

template <class Block>
void multiply_floats(const PanelArgs& a) {
  using P = PanelOf<Block>;
  const std::int64_t steps = (a.k + kPanelStep - 1) / kPanelStep;
  for_panels(a, [&]<int U>(ColumnRange columns, std::int64_t first, std::int64_t count) {
    auto* sums = static_cast<Iv::Floats*>(a.scratch);
    for (std::int64_t i = 0; i < U * columns.count; ++i) sums[i] = Iv::zero();
    const std::uint8_t* units[U];
    for (int u = 0; u < U; ++u)
      units[u] = static_cast<const std::uint8_t*>(a.w) +
                 (first + smaller(u / kHalves, count - 1)) * P::bytes(a.k);
    for (std::int64_t chunk = 0; chunk * kChunkSteps < steps; ++chunk) {
      const std::int64_t n = smaller(kChunkSteps, steps - chunk * kChunkSteps);
      for (std::int64_t c = 0; c < columns.count; c += a.group) {
        const float* x = static_cast<const float*>(a.columns) +
                         columns_offset(chunk, columns.first + c, n, a.num_cols) * kPanelStep;
        with_columns<kFewGroup>(smaller(a.group, columns.count - c), [&]<int C>() {
          if constexpr (U == kUnits || C <= kFewColumns)
            float_tile<Block, U, C>(sums + U * c, units, x, n * kPanelStep);
        });
      }
      for (int u = 0; u < U; ++u) units[u] += P::kChunkBytes;
    }
    store_sums<U>(a, columns, first, count);
  });
}

}  // namespace
}  // namespace rocmforge::cpu
