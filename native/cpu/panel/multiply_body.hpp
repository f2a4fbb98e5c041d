// Panels times columns with integer dot products, written over the Iv (integer vectors), Dot and
// TileDots of the including ISA unit.
//
// A lane is a row of the matrix. Per step and column, with s one of the step's scales of a row:
//   sum += x.d * (sum over s of  d * s * dot(codes - bias, x.qs)  -  dmin * m * x.sum)
// in that order, each multiplication by a scale and each addition one rounding (fused
// multiply-adds), the dots exact. Steps are added one after another. That is all that decides a
// result, so it is the same for every number of columns, tile shape and level:
//   |error| <= (k / 32 + 6) * 2^-24 * sum |w| |x| over the dequantized values, where a min counts
//   apart from the quant it belongs to.
//
// Few columns read codes straight from memory, several panels at a time: as many streams keep more
// reads in flight than one core otherwise has. More than a group of them meet a chunk's codes again
// in the first-level cache. Many columns share codes expanded to a byte each there.
//
// No std:: templates here: what is not inlined becomes a weak symbol with this unit's instructions
// in it (core/hd.hpp).
#pragma once

#include <cstdint>

#include "cpu/panel/steps.hpp"

namespace rocmforge::cpu {
namespace {

// A step of U units at once: a word of activations meets all of them before the next is loaded, as
// with a load for each product the load ports are the limit. The sums stay in memory, their
// registers are the dots'. integers<u, g>() are those of group g of unit u.
template <int kNumScales, bool kHasMin, int kBias, int kMaxCode, int U, int C, class Integers,
          class Scales>
[[gnu::always_inline]] inline void add_steps(Iv::Floats* sums, const BlockQ8x32* x,
                                             Integers integers, const Scales& scales) {
  Iv::Floats scaled[U][C];
  unrolled<kNumScales>([&]<int i>() __attribute__((always_inline)) {
    constexpr int kGroups = 8 / kNumScales;
    Dot<kMaxCode, kGroups> dots[U][C];
    unrolled<C>([&]<int c>() __attribute__((always_inline)) {
      unrolled<U>([&]<int u>() __attribute__((always_inline)) {
        dots[u][c].template start<kBias>(x[c].offsets[kNumScales == 1 ? 2 : i]);
      });
    });
    unrolled<kGroups>([&]<int j>() __attribute__((always_inline)) {
      constexpr int kGroup = i * kGroups + j;
      Iv::Bytes w[U];
      unrolled<U>([&]<int u>() __attribute__((always_inline)) {
        w[u] = integers.template operator()<u, kGroup>();
      });
      unrolled<C>([&]<int c>() __attribute__((always_inline)) {
        const Iv::Word word = Iv::word<j>(x[c].qs + 4 * kGroup);
        unrolled<U>([&]<int u>()
                        __attribute__((always_inline)) { dots[u][c].template add<j>(w[u], word); });
      });
    });
    unrolled<C>([&]<int c>() __attribute__((always_inline)) {
      unrolled<U>([&]<int u>() __attribute__((always_inline)) {
        scaled[u][c] = with_dot<i>(scaled[u][c], dots[u][c].finish(), scales[u].scale[i]);
      });
    });
  });
  unrolled<C>([&]<int c>() __attribute__((always_inline)) {
    unrolled<U>([&]<int u>() __attribute__((always_inline)) {
      add_scaled<kNumScales, kHasMin>(sums[u * C + c], scaled[u][c], x[c], scales[u]);
    });
  });
}

// A chunk of U units straight from their panels. sums: [U][C]; `next` is what the same units read a
// chunk later, fetched meanwhile. The hardware's own prefetcher follows the streams, but starts
// anew with every panel: one column of Q4_0 reads 85 % of the read bandwidth without, 97 % with
// this, of Q4_K, whose headers lie between the chunks, 64 %.
template <class P, int U, int C>
[[gnu::noinline]] void direct_tile(Iv::Floats* sums, const std::uint8_t* const* panels,
                                   const std::uint8_t* const* next, const BlockQ8x32* x,
                                   std::int64_t steps) {
  const std::uint8_t* w[U];
  const std::uint8_t* ahead[U];
  for (int u = 0; u < U; ++u) w[u] = panels[u];
  for (int u = 0; u < U; ++u) ahead[u] = next[u];
  std::int64_t at = P::kHeaderBytes;
  for (std::int64_t step = 0; step < steps; ++step, x += C, at += P::kStepBytes) {
    StepScales<P> scales[U];
    unrolled<U>([&]<int u>() __attribute__((always_inline)) {
      constexpr int kHalf = u % kHalves;
      const std::uint8_t* p = w[u] + at;
      if constexpr (kHalf == 0)
        for (std::int64_t i = 0; i < P::kStepBytes; i += 64)
          __builtin_prefetch(ahead[u] + at + i, 0, 3);
      scales[u] = scales_at<P>(w[u], p, kHalf);
    });
    add_steps<P::kNumScales, P::kHasMin, kIntegerBias<P>, P::kMaxCode, U, C>(
        sums, x,
        [&]<int u, int g>() __attribute__((always_inline)) {
          return integers_at<P, g>(w[u] + at + u % kHalves * 4 * Iv::kLanes);
        },
        scales);
  }
}

// All steps, those of the chunk that follows in memory fetched meanwhile.
template <class P>
[[gnu::noinline]] void expand(Expanded<P>& to, const std::uint8_t* const* panels,
                              std::int64_t steps) {
  for (std::int64_t step = 0; step < steps; ++step) {
    for (int u = 0; u < kUnits; u += kHalves)
      for (std::int64_t i = 0; i < P::kStepBytes; i += 64)
        __builtin_prefetch(panels[u] + P::kChunkBytes + P::kHeaderBytes + step * P::kStepBytes + i,
                           0, 2);
    expand_step<P>(to, panels, step);
  }
}

template <int kNumScales, bool kHasMin, int kBias, int kMaxCode, int C>
[[gnu::noinline]] void expanded_tile(Iv::Floats* sums,
                                     const ExpandedChunk<kNumScales, kHasMin, kBias, kMaxCode>& w,
                                     const BlockQ8x32* x, std::int64_t steps) {
  Iv::Floats s[kUnits][C];
  unrolled<kUnits>([&]<int u>() { unrolled<C>([&]<int c>() { s[u][c] = sums[u * C + c]; }); });
  for (std::int64_t step = 0; step < steps; ++step, x += C) {
    const auto& scales = w.scales[step];
    Iv::Floats scaled[kUnits][C];
    unrolled<kNumScales>([&]<int i>() {
      TileDots<kUnits, kBias, kMaxCode, 8 / kNumScales, C> dots;
      dots.template compute<i>(w.integers[step], x);
      unrolled<kUnits>([&]<int u>() {
        unrolled<C>([&]<int c>() {
          scaled[u][c] = with_dot<i>(scaled[u][c], dots.template dot<u, c>(), scales[u].scale[i]);
        });
      });
    });
    unrolled<kUnits>([&]<int u>() {
      unrolled<C>([&]<int c>() {
        add_scaled<kNumScales, kHasMin>(s[u][c], scaled[u][c], x[c], scales[u]);
      });
    });
  }
  unrolled<kUnits>([&]<int u>() { unrolled<C>([&]<int c>() { sums[u * C + c] = s[u][c]; }); });
}

// Calls f<columns>(), columns between 1 and C.
template <int C, class F>
[[gnu::always_inline]] inline void with_columns(std::int64_t columns, F f) {
  if (columns == C)
    f.template operator()<C>();
  else if constexpr (C > 1)
    with_columns<C - 1>(columns, f);
}

// The lines that a group of columns will be stored to. They lie a row of results apart, where no
// prefetcher finds them: 12 % of the time at 512 columns of 2,048.
inline void fetch_results(const PanelArgs& a, std::int64_t column, std::int64_t panel) {
  for (std::int64_t c = column; c < column + Iv::kManyGroup && c < a.num_cols; ++c)
    for (int u = 0; u < kUnits / kHalves; ++u)
      __builtin_prefetch(a.y + c * a.y_stride + (panel + u) * kPanelRows, 1, 3);
}

template <class P, int C>
inline void multiply_few(const PanelArgs& a, std::int64_t first, std::int64_t count) {
  constexpr int U = kFewUnits<C>;
  auto* sums = static_cast<Iv::Floats*>(a.scratch);
  const std::int64_t columns = packed_columns(a.num_cols, C);
  for (std::int64_t i = 0; i < U * columns; ++i) sums[i] = Iv::zero();
  Units<P, U> units(a, first, count);
  const auto* x = static_cast<const BlockQ8x32*>(a.columns);
  for (std::int64_t left = a.k / kPanelStep; left > 0; left -= kChunkSteps) {
    const std::int64_t steps = smaller(kChunkSteps, left);
    const std::uint8_t* next[U];
    for (int u = 0; u < U; ++u) next[u] = units.at[u] + to_next_chunk<P, U>(a.k, left);
    for (std::int64_t c = 0; c < columns; c += C, x += C * steps)
      direct_tile<P, U, C>(sums + U * c, units.at, next, x, steps);
    units.next_chunk();
  }
  store_sums<U>(a, {0, a.num_cols}, first, count);
}

template <class P>
inline void multiply_many(const PanelArgs& a, ColumnRange columns, std::int64_t first,
                          std::int64_t count) {
  using Chunk = Expanded<P>;
  auto* sums = static_cast<Iv::Floats*>(a.scratch);
  auto& expanded = *reinterpret_cast<Chunk*>(static_cast<char*>(a.scratch) + kPanelSumsBytes);
  const std::int64_t steps = a.k / kPanelStep;
  for (std::int64_t i = 0; i < kUnits * columns.count; ++i) sums[i] = Iv::zero();
  Units<P, kUnits> units(a, first, count);
  for (std::int64_t chunk = 0; chunk * kChunkSteps < steps; ++chunk) {
    const std::int64_t n = smaller(kChunkSteps, steps - chunk * kChunkSteps);
    const auto* x = static_cast<const BlockQ8x32*>(a.columns) +
                    columns_offset(chunk, columns.first, n, a.num_cols);
    expand<P>(expanded, units.at, n);
    const bool ends = (chunk + 1) * kChunkSteps >= steps;
    for (std::int64_t c = 0; c < columns.count; c += Iv::kManyGroup) {
      if (ends) fetch_results(a, columns.first + c, first);
      with_columns<Iv::kManyGroup>(smaller(Iv::kManyGroup, columns.count - c), [&]<int C>() {
        expanded_tile<P::kNumScales, P::kHasMin, Chunk::kBias, Chunk::kMaxCode, C>(
            sums + kUnits * c, expanded, x + c * n, n);
      });
    }
    units.next_chunk();
  }
  store_sums<kUnits>(a, columns, first, count);
}

// few<C>(first, count) computes up to kFewUnits<C> units of C columns, many(columns, first, count)
// up to kUnits.
template <class Few, class Many>
inline void for_panels(const PanelArgs& a, Few few, Many many) {
  const auto in_runs_of = [&](std::int64_t panels, auto f) __attribute__((always_inline)) {
    for (std::int64_t p = a.panel_begin; p < a.panel_end; p += panels)
      f(p, smaller(panels, a.panel_end - p));
  };
  if (a.num_cols <= kFewColumns) {
    const auto with = [&]<int C>() __attribute__((always_inline)) {
      in_runs_of(kFewUnits<C> / kHalves, [&](std::int64_t first, std::int64_t count) {
        few.template operator()<C>(first, count);
      });
    };
    if (a.group == 1) return with.template operator()<1>();
    if (a.group == 2) return with.template operator()<2>();
    if constexpr (Iv::kFewGroup > 4) {
      if (a.group == 6) return with.template operator()<6>();
      if (a.group == 8) return with.template operator()<8>();
    }
    return with.template operator()<4>();
  }
  const std::int64_t most = kMaxColumns / a.group * a.group;
  for (std::int64_t c = 0; c < a.num_cols; c += most)
    in_runs_of(kUnits / kHalves, [&](std::int64_t first, std::int64_t count) {
      many(ColumnRange{c, smaller(most, a.num_cols - c)}, first, count);
    });
}

template <class Block>
void multiply(const PanelArgs& a) {
  using P = PanelOf<Block>;
  for_panels(
      a,
      [&]<int C>(std::int64_t first, std::int64_t count) { multiply_few<P, C>(a, first, count); },
      [&](ColumnRange columns, std::int64_t first, std::int64_t count) {
        multiply_many<P>(a, columns, first, count);
      });
}

// Of the formats with kWeights weights in a block; a unit for each, as they compile for long.
template <int kWeights>
void install_quantized_panels(Kernels& k) {
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  if constexpr (kWeights == weights)                           \
    k.panels.multiply[static_cast<int>(quant::Format::k##name)] = multiply<quant::Block>;
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace
}  // namespace rocmforge::cpu
