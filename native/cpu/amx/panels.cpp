// Panels times groups of 16 columns of activation blocks by matrix tiles of signed bytes: the
// results of panel/multiply_body.hpp to the last bit.
//
// A tile product is the dots of 16 rows and 16 columns over the weights of one scale, as exact as
// the vector units'. Tile registers are no operands of the vector units: the dots of a chunk go
// through the first-level cache. There they meet scales, mins and the columns' scales in the order
// of multiply_body.hpp. One thread of a Xeon with AMX: 9 ns for the tile products of 16 rows, 16
// columns and 32 weights, as much for adding them up, which hardly overlap whatever their order.
#include <cstdint>

#include "cpu/amx/iv.hpp"
#include "cpu/amx/tiles.hpp"
#include "cpu/installers.hpp"
#include "cpu/panel/store_groups.hpp"
// Uses Iv and store_groups.
#include "cpu/panel/steps.hpp"

namespace rocmforge::cpu {
namespace {

constexpr int kColumns = kPanelTileColumns;
constexpr int kHalfColumns = 8;  // times two units: what the registers hold of sums
constexpr int kLead = 2;         // steps that the tiles are ahead

// Tiles 0 to 3 are dots [column][row], 4 columns [column][weight], 6 and 7 the weights of two
// panels in groups of four.
template <class P>
TileConfig tile_config() {
  TileConfig config;
  config.row_bytes[4] = kPanelStep / P::kNumScales;
  config.rows[6] = config.rows[7] = 8 / P::kNumScales;
  return config;
}

template <class P>
struct Dots {
  static constexpr std::int64_t kSteps = kChunkSteps / P::kNumScales;  // at a time
  std::int32_t of[kSteps][P::kNumScales][kUnits][kColumns][kPanelRows];
};

// Those of a step; kTile says which tiles compute them.
template <class P, int kTile>
[[gnu::always_inline]] inline void compute_dots(std::int32_t (*to)[kUnits][kColumns][kPanelRows],
                                                const Expanded<P>& w, std::int64_t step,
                                                const BlockQ8x32* x) {
  constexpr int kGroups = 8 / P::kNumScales;
  unrolled<P::kNumScales>([&]<int i>() __attribute__((always_inline)) {
    constexpr int kThis = (kTile + 2 * i) % 4;
    tile_load<4>(x->qs + i * 4 * kGroups, sizeof(BlockQ8x32));
    tile_load<6>(w.integers[step][0][i * kGroups]);
    tile_load<7>(w.integers[step][1][i * kGroups]);
    tile_zero<kThis>();
    tile_zero<kThis + 1>();
    tile_multiply_add_bytes<kThis, 4, 6>();
    tile_multiply_add_bytes<kThis + 1, 4, 7>();
    tile_store<kThis>(to[i][0]);
    tile_store<kThis + 1>(to[i][1]);
  });
}

// sums += a step of columns kFirst .. kFirst + 7.
template <class P, int kFirst>
[[gnu::always_inline]] inline void add_step(
    Iv::Floats (&sums)[kUnits][kHalfColumns], const Expanded<P>& w, std::int64_t step,
    const BlockQ8x32* x, const std::int32_t (*dots)[kUnits][kColumns][kPanelRows]) {
  const auto& scales = w.scales[step];
  unrolled<kHalfColumns>([&]<int c>() __attribute__((always_inline)) {
    unrolled<kUnits>([&]<int u>() __attribute__((always_inline)) {
      Iv::Floats scaled;
      unrolled<P::kNumScales>([&]<int i>() __attribute__((always_inline)) {
        scaled = with_dot<i>(scaled, _mm512_load_si512(dots[i][u][kFirst + c]), scales[u].scale[i]);
      });
      add_scaled<P::kNumScales, P::kHasMin>(sums[u][c], scaled, x[kFirst + c], scales[u]);
    });
  });
}

template <class P>
[[gnu::always_inline]] inline void fetch_step(const std::uint8_t* const* panels,
                                              std::int64_t step) {
  for (int u = 0; u < kUnits; ++u)
    for (std::int64_t i = 0; i < P::kStepBytes; i += 64)
      __builtin_prefetch(panels[u] + P::kHeaderBytes + step * P::kStepBytes + i, 0, 3);
}

// A chunk of two panels times a group of columns. sums: [unit][column]; `ahead`, if there is
// something: what the panels are read from a chunk later, fetched meanwhile.
template <class P>
[[gnu::noinline]] void add_chunk(Iv::Floats* sums, const Expanded<P>& w, const BlockQ8x32* x,
                                 std::int64_t steps, const std::uint8_t* const* ahead,
                                 Dots<P>& dots) {
  Iv::Floats s[kUnits][kHalfColumns];
  const auto each = [&](auto f) __attribute__((always_inline)) {
    unrolled<kUnits>([&]<int u>() __attribute__((always_inline)) {
      unrolled<kHalfColumns>([&]<int c>()
                                 __attribute__((always_inline)) { f.template operator()<u, c>(); });
    });
  };
  for (std::int64_t begin = 0; begin < steps; begin += Dots<P>::kSteps) {
    const std::int64_t n = smaller(Dots<P>::kSteps, steps - begin);
    const auto compute = [&](std::int64_t step) __attribute__((always_inline)) {
      if (step >= n) return;
      const BlockQ8x32* columns = x + (begin + step) * kColumns;
      // Two scales use all four tiles.
      if (P::kNumScales == 1 && step % 2 != 0)
        compute_dots<P, 2>(dots.of[step], w, begin + step, columns);
      else
        compute_dots<P, 0>(dots.of[step], w, begin + step, columns);
    };
    for (int step = 0; step < kLead; ++step) compute(step);
    unrolled<2>([&]<int half>() __attribute__((always_inline)) {
      constexpr int kFirst = half * kHalfColumns;
      each([&]<int u, int c>()
               __attribute__((always_inline)) { s[u][c] = sums[u * kColumns + kFirst + c]; });
      for (std::int64_t step = 0; step < n; ++step) {
        if (half == 0) {
          compute(step + kLead);
          if (ahead) fetch_step<P>(ahead, begin + step);
        }
        add_step<P, kFirst>(s, w, begin + step, x + (begin + step) * kColumns, dots.of[step]);
      }
      each([&]<int u, int c>()
               __attribute__((always_inline)) { sums[u * kColumns + kFirst + c] = s[u][c]; });
    });
  }
}

template <class P>
void multiply_pair(const PanelArgs& a, ColumnRange columns, std::int64_t first,
                   std::int64_t count) {
  auto* at = static_cast<char*>(a.scratch);
  auto* sums = reinterpret_cast<Iv::Floats*>(at);
  auto& expanded = *reinterpret_cast<Expanded<P>*>(at + kPanelSumsBytes);
  auto& dots = *reinterpret_cast<Dots<P>*>(at + kPanelSumsBytes + kPanelChunkBytes);
  static_assert(sizeof expanded <= kPanelChunkBytes && sizeof dots <= kPanelDotsBytes);
  for (std::int64_t i = 0; i < kUnits * columns.count; ++i) sums[i] = Iv::zero();
  Units<P, kUnits> units(a, first, count);
  const std::int64_t steps = a.k / kPanelStep;
  for (std::int64_t done = 0; done < steps; done += kChunkSteps) {
    const std::int64_t n = smaller(kChunkSteps, steps - done);
    const auto* x =
        static_cast<const BlockQ8x32*>(a.columns) +
        columns_offset(done / kChunkSteps, columns.first, n, packed_columns(a.num_cols, kColumns));
    for (std::int64_t step = 0; step < n; ++step) expand_step<P>(expanded, units.at, step);
    const std::uint8_t* ahead[kUnits];
    for (int u = 0; u < kUnits; ++u)
      ahead[u] = units.at[u] + to_next_chunk<P, kUnits>(a.k, steps - done);
    for (std::int64_t c = 0; c < columns.count; c += kColumns)
      add_chunk<P>(sums + kUnits * c, expanded, x + c * n, n, c == 0 ? ahead : nullptr, dots);
    units.next_chunk();
  }
  store_sums<kUnits>(a, columns, first, count);
}

template <class Block>
void multiply_tiles(const PanelArgs& a) {
  using P = PanelOf<Block>;
  configure_tiles(tile_config<P>());
  const std::int64_t packed = packed_columns(a.num_cols, kColumns);
  for (std::int64_t c = 0; c < packed; c += kMaxColumns)
    for (std::int64_t p = a.panel_begin; p < a.panel_end; p += kUnits)
      multiply_pair<P>(a, {c, smaller(kMaxColumns, packed - c)}, p,
                       smaller(kUnits, a.panel_end - p));
  release_tiles();
}

template <class Block>
void install(Kernels& k, quant::Format format) {
  if constexpr (!PanelOf<Block>::kIsFloat)
    k.panels.multiply_tiles[static_cast<int>(format)] = multiply_tiles<Block>;
}

}  // namespace

void install_amx_panels(Kernels& k) {
  // Against vectors over weights in memory, two threads, Gop/s at 12 and 16 columns, vectors :
  // tiles: Q4_0 645 : 701, 727 : 946; Q4_K 591 : 647, 672 : 835; Q8_0 456 : 448, 539 : 598; Q6_K
  // 455 : 424, 497 : 531. At 8 columns, with tiles of 8, Q4_0 764 : 674.
  k.panels.min_tile_columns = 12;
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  install<quant::Block>(k, quant::Format::k##name);
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace rocmforge::cpu
