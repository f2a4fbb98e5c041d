// Panels of the float formats times columns of floats, written over the Iv of the including ISA
// unit: one fused multiply-add per weight and column. The sums of a chunk start from zero, so
//   |error| <= (256 + k / 256 + 2) * 2^-24 * sum |w| |x|.
#pragma once

#include "cpu/panel/multiply_body.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kFloatPrefetch = 2048;  // bytes ahead

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
      if constexpr (u % kHalves == 0)
        __builtin_prefetch(w[u] + i * kPanelRows * static_cast<int>(sizeof(Block)) + kFloatPrefetch,
                           0, 3);
      const Iv::Floats weights = Iv::values(reinterpret_cast<const Block*>(w[u]) + i * kPanelRows);
      unrolled<C>([&]<int c>() { s[u][c] = Iv::fma(weights, Iv::set(x + c), s[u][c]); });
    });
  }
  unrolled<U>([&]<int u>() {
    unrolled<C>([&]<int c>() { sums[u * C + c] = Iv::add(sums[u * C + c], s[u][c]); });
  });
}

// All of k, for one group of columns at a time.
template <class Block, int U, int C>
inline void float_group(const PanelArgs& a, std::int64_t column, std::int64_t all_columns,
                        Iv::Floats* sums, std::int64_t first, std::int64_t count) {
  using P = PanelOf<Block>;
  for (int i = 0; i < U * C; ++i) sums[i] = Iv::zero();
  Units<P, U> units(a, first, count);
  const std::int64_t steps = (a.k + kPanelStep - 1) / kPanelStep;
  for (std::int64_t chunk = 0; chunk * kChunkSteps < steps; ++chunk) {
    const std::int64_t n = smaller(kChunkSteps, steps - chunk * kChunkSteps);
    const float* x = static_cast<const float*>(a.columns) +
                     columns_offset(chunk, column, n, all_columns) * kPanelStep;
    float_tile<Block, U, C>(sums, units.at, x, n * kPanelStep);
    units.next_chunk();
  }
}

template <class Block>
void multiply_floats(const PanelArgs& a) {
  auto* sums = static_cast<Iv::Floats*>(a.scratch);
  for_panels(
      a,
      [&]<int C>(std::int64_t first, std::int64_t count) {
        constexpr int U = kFewUnits<C>;
        const std::int64_t columns = packed_columns(a.num_cols, C);
        for (std::int64_t c = 0; c < columns; c += C)
          float_group<Block, U, C>(a, c, columns, sums + U * c, first, count);
        store_sums<U>(a, {0, a.num_cols}, first, count);
      },
      [&](ColumnRange columns, std::int64_t first, std::int64_t count) {
        for (std::int64_t c = 0; c < columns.count; c += a.group)
          with_columns<Iv::kManyGroup>(smaller(a.group, columns.count - c), [&]<int C>() {
            float_group<Block, kUnits, C>(a, columns.first + c, a.num_cols, sums + kUnits * c,
                                          first, count);
          });
        store_sums<kUnits>(a, columns, first, count);
      });
}

template <int kWeights = 1>
void install_float_panels(Kernels& k) {
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  if constexpr (kWeights == weights)                           \
    k.panels.multiply[static_cast<int>(quant::Format::k##name)] = multiply_floats<quant::Block>;
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace
}  // namespace rocmforge::cpu
