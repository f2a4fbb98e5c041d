// What the products of panels share: a step's integers and scales as the Iv (integer vectors) of
// the including ISA unit, what is done with a dot, expanded chunks, sums on their way to results.
//
// No std:: templates here: what is not inlined becomes a weak symbol with this unit's instructions
// in it (core/hd.hpp).
#pragma once

#include <cstdint>

#include "cpu/kernels.hpp"
#include "cpu/panel/layout.hpp"
#include "cpu/unrolled.hpp"
#include "quant/activations.hpp"

namespace rocmforge::cpu {
namespace {

using quant::BlockQ8x32;

// A unit is a vector of rows, a whole panel or half of one: unit u of a tile is half u % kHalves of
// panel u / kHalves.
constexpr int kHalves = static_cast<int>(kPanelRows) / Iv::kLanes;
constexpr std::int64_t kGroupBytes = 64;  // four weights of 16 rows
// Units of a tile. Four streams of memory at a time: with one 24 GB/s, with four 37 of 39 (two
// threads, Xeon with AMX).
constexpr int kUnits = 2;
template <int C>
constexpr int kFewUnits = C <= Iv::kFourUnitsColumns ? 4 : kUnits;
constexpr std::int64_t kMaxColumns = 512;  // whose sums are kept at a time, in L2

// The codes of group g of the step at `p`, which points to this unit's lanes.
template <class P, int g>
[[gnu::always_inline]] inline Iv::Bytes codes_at(const std::uint8_t* p) {
  Iv::Bytes codes;
  if constexpr (P::kLowBits == 8) {
    return Iv::load(p + g * kGroupBytes);
  } else {
    constexpr int kPerPlane = 8 / P::kLowBits;
    constexpr int kShift = g % kPerPlane * P::kLowBits;
    codes = Iv::load(p + g / kPerPlane * kGroupBytes);
    codes = Iv::bits<kShift, (1 << P::kLowBits) - 1>(codes);
  }
  if constexpr (P::kHighBits == 1) {
    const Iv::Bytes high = Iv::load(p + P::kLowBytes);
    codes = Iv::with_bits<g, P::kLowBits, 1 << P::kLowBits>(codes, high);
  } else if constexpr (P::kHighBits == 2) {
    const Iv::Bytes high = Iv::load(p + P::kLowBytes + g / 4 * kGroupBytes);
    codes = Iv::with_bits<g % 4 * 2, P::kLowBits, 3 << P::kLowBits>(codes, high);
  }
  return codes;
}

// The offset of the integers that meet activations: the format's, unless the instruction set
// multiplies signed bytes and they would not fit with it.
template <class P>
constexpr int kIntegerBias = Iv::kSignedBytes && P::kMaxCode > 127 ? 0 : P::kBias;

// The integers of a table format, with their offset: sixteen bytes.
template <class P>
struct Table {
  std::uint8_t values[16];
  constexpr Table() : values() {
    for (int i = 0; i < 16; ++i)
      values[i] = static_cast<std::uint8_t>(P::value(i) + kIntegerBias<P>);
  }
};

template <class P, int g>
[[gnu::always_inline]] inline Iv::Bytes integers_at(const std::uint8_t* p) {
  const Iv::Bytes codes = codes_at<P, g>(p);
  if constexpr (P::kIsTable) {
    static constexpr Table<P> kTable;
    return Iv::look_up(kTable.values, codes);
  } else if constexpr (kIntegerBias<P> != P::kBias) {
    return Iv::add_bytes(codes, kIntegerBias<P> - P::kBias);
  } else {
    return codes;
  }
}

// The scales of a step as the tile wants them: weight = scale * (integer - bias) - min.
template <class P>
struct StepScales {
  Iv::Floats scale[P::kNumScales];
  Iv::Floats min[P::kHasMin ? P::kNumScales : 1];
};

// `header` and `step` point to the unit's lanes of the first 16 values there; `half` is the unit's.
template <class P>
[[gnu::always_inline]] inline StepScales<P> scales_at(const std::uint8_t* header,
                                                      const std::uint8_t* step, int half) {
  StepScales<P> s;
  const std::uint8_t* p = step + P::kScalesAt + half * Iv::kLanes;
  if constexpr (P::kScales == PanelScales::kHalf || P::kScales == PanelScales::kHalfAndMin) {
    p += half * Iv::kLanes;  // two bytes each
    s.scale[0] = Iv::halves(p);
    if constexpr (P::kHasMin) s.min[0] = Iv::negated(Iv::halves(p + 2 * kPanelRows));
  } else if constexpr (P::kScales == PanelScales::kE8M0) {
    s.scale[0] = Iv::e8m0_halves(p);
  } else {
    const std::uint8_t* h = header + 2 * half * Iv::kLanes;
    const Iv::Floats d = Iv::halves(h);
    for (int i = 0; i < P::kNumScales; ++i) {
      if constexpr (P::kScales == PanelScales::kSigned)
        s.scale[i] = Iv::mul(d, Iv::signed_bytes(p + i * kPanelRows));
      if constexpr (P::kScales == PanelScales::kBytes)
        s.scale[i] = Iv::mul(d, Iv::unsigned_bytes(p + i * kPanelRows));
      if constexpr (P::kScales == PanelScales::kNibbles)
        s.scale[i] = Iv::mul(d, Iv::low_nibbles(p + i * kPanelRows));
    }
    if constexpr (P::kHasMin) {
      const Iv::Floats dmin = Iv::halves(h + 2 * kPanelRows);
      for (int i = 0; i < P::kNumScales; ++i) {
        if constexpr (P::kScales == PanelScales::kBytes)
          s.min[i] = Iv::mul(dmin, Iv::unsigned_bytes(p + (P::kNumScales + i) * kPanelRows));
        else
          s.min[i] = Iv::mul(dmin, Iv::high_nibbles(p + i * kPanelRows));
      }
    }
  }
  return s;
}

// sum += x.d * (scaled - sum over the scales of min * sum of x)
template <int kNumScales, bool kHasMin, class Scales>
[[gnu::always_inline]] inline void add_scaled(Iv::Floats& sum, Iv::Floats scaled,
                                              const BlockQ8x32& x, const Scales& scales) {
  if constexpr (kHasMin)
    unrolled<kNumScales>([&]<int i>() {
      scaled = Iv::negated_fma(scales.min[i], Iv::set(x.sums + (kNumScales == 1 ? 2 : i)), scaled);
    });
  sum = Iv::fma(scaled, Iv::set(&x.d), sum);
}

// `scaled` with the dot of scale number i: the first one begins it.
template <int i>
[[gnu::always_inline]] inline Iv::Floats with_dot(Iv::Floats scaled, Iv::Ints dot,
                                                  Iv::Floats scale) {
  if constexpr (i == 0)
    return Iv::mul(Iv::floats(dot), scale);
  else
    return Iv::fma(Iv::floats(dot), scale, scaled);
}

// A chunk of kUnits units with a byte a weight: [step][unit][group][lanes]. Where the instruction
// set multiplies any byte at the same speed, all formats without mins share one offset.
template <int kNumScales, bool kHasMin, int kBiasOf, int kMaxCodeOf>
struct ExpandedChunk {
  static constexpr int kBias = kBiasOf, kMaxCode = kMaxCodeOf;
  alignas(64) std::uint8_t integers[kChunkSteps][kUnits][8][4 * Iv::kLanes];
  struct Scales {
    Iv::Floats scale[kNumScales];
    Iv::Floats min[kHasMin ? kNumScales : 1];
  } scales[kChunkSteps][kUnits];
};
template <class P>
using Expanded = ExpandedChunk<P::kNumScales, P::kHasMin,
                               !Iv::kAnyByte || P::kHasMin ? kIntegerBias<P>
                               : Iv::kSignedBytes          ? 0
                                                           : 128,
                               Iv::kAnyByte ? 255 : P::kMaxCode>;

template <class P, int g>
[[gnu::always_inline]] inline Iv::Bytes expanded_at(const std::uint8_t* p) {
  const Iv::Bytes w = integers_at<P, g>(p);
  constexpr int kOffset = Expanded<P>::kBias - kIntegerBias<P>;
  return kOffset == 0 ? w : Iv::add_bytes(w, kOffset);
}

template <class P>
[[gnu::always_inline]] inline void expand_step(Expanded<P>& to, const std::uint8_t* const* panels,
                                               std::int64_t step) {
  unrolled<kUnits>([&]<int u>() {
    constexpr int kHalf = u % kHalves;
    const std::uint8_t* p = panels[u] + P::kHeaderBytes + step * P::kStepBytes;
    const std::uint8_t* lanes = p + kHalf * 4 * Iv::kLanes;
    store_groups(to.integers[step][u], [&]<int g>() { return expanded_at<P, g>(lanes); });
    const StepScales<P> s = scales_at<P>(panels[u], p, kHalf);
    for (int i = 0; i < P::kNumScales; ++i) to.scales[step][u].scale[i] = s.scale[i];
    if constexpr (P::kHasMin)
      for (int i = 0; i < P::kNumScales; ++i) to.scales[step][u].min[i] = s.min[i];
  });
}

// Of all columns, those that are computed at a time.
struct ColumnRange {
  std::int64_t first, count;
};

// sums: [group of columns][U][columns of the group]
template <int U>
inline void store_sums(const PanelArgs& a, ColumnRange columns, std::int64_t first,
                       std::int64_t count) {
  const auto* sums = static_cast<const Iv::Floats*>(a.scratch);
  const std::int64_t packed = packed_columns(a.num_cols, a.group) - columns.first;
  for (std::int64_t c = 0; c < columns.count; c += a.group) {
    const std::int64_t group = smaller(a.group, packed - c);
    for (int u = 0; u < U && u / kHalves < count; ++u) {
      const std::int64_t row = (first + u / kHalves) * kPanelRows + u % kHalves * Iv::kLanes;
      if (row >= a.rows) break;
      for (std::int64_t i = 0; i < group && columns.first + c + i < a.num_cols; ++i)
        Iv::store(a.y + (columns.first + c + i) * a.y_stride + row, sums[U * c + u * group + i],
                  a.rows - row);
    }
  }
}

// Units of panels first .. first + count - 1, count <= U / kHalves; what is beyond the last panel
// computes it once more.
template <class P, int U>
struct Units {
  const std::uint8_t* at[U];

  Units(const PanelArgs& a, std::int64_t first, std::int64_t count) {
    for (int u = 0; u < U; ++u)
      at[u] = static_cast<const std::uint8_t*>(a.w) +
              (first + smaller(u / kHalves, count - 1)) * P::bytes(a.k);
  }
  void next_chunk() {
    for (int u = 0; u < U; ++u) at[u] += P::kChunkBytes;
  }
};

// From a unit's chunk to the one that it meets next: in the same panel, or behind the panels of U
// units. `left` are the steps from this chunk on.
template <class P, int U>
inline std::int64_t to_next_chunk(std::int64_t k, std::int64_t left) {
  if (left > kChunkSteps) return P::kChunkBytes;
  return left * P::kStepBytes + P::kHeaderBytes + (U / kHalves - 1) * P::bytes(k);
}

}  // namespace
}  // namespace rocmforge::cpu
