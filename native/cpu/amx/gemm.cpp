// Products of many columns by matrix tiles.
//
// 32 rows (two panels) times 512 of k are expanded into bfloat16 (32 KB, in L1) and multiplied with
// all columns, 32 at a time: two tiles of columns by two of rows, their four sums in tile
// registers. Sums that another slab of k will continue lie in a buffer in L2 in between
// (kGroupPanels panels by kMaxColumns columns); finished ones go to y.
//
// Everything else happens between the tile instructions, which leave the vector units idle: the
// next two panels are expanded, the memory of the next block's sums or results is fetched for
// writing.
//
// One (row, column) is computed the same way wherever its tile lies: k in order, 32 at a time.
#include <type_traits>

#include "cpu/amx/expand.hpp"
#include "cpu/amx/layout.hpp"
#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kPairRows = 2 * kPanelRows;
constexpr std::int64_t kGroupPanels = 16;
constexpr std::int64_t kExpandedBytes = kPairRows * kDepth * 2;
constexpr std::int64_t kSumsBytes = 4 * kTileBytes;  // of 32 rows by 32 columns
constexpr std::int64_t kScratchBytes =
    2 * kExpandedBytes + kSumsBytes + kGroupPanels / 2 * (kMaxColumns / 32) * kSumsBytes;

// Expands a slab of two panels in small pieces, into [panel][k tile][16 pairs of k][16 rows][2].
// A second panel beyond the matrix is the first one again: its sums are not used.
template <class Block>
class Expansion {
 public:
  using P = PanelOf<Block>;

  // `w`: the first chunk of the slab in each panel; steps: tiles of k.
  void start(const std::uint8_t* first, const std::uint8_t* second, std::int64_t steps, char* to) {
    panels_[0] = first;
    panels_[1] = second;
    steps_ = steps;
    to_ = to;
    piece_ = 0;
    pieces_ = 16 * steps;
  }
  std::int64_t pieces() const { return pieces_; }

  // The next group, if there are any left.
  [[gnu::always_inline]] void piece() {
    if (piece_ == pieces_) return;
    const std::int64_t g = piece_ % 8;
    if (g == 0) next_step();
    switch (g) {
      case 0:
        return group<0>();
      case 1:
        return group<1>();
      case 2:
        return group<2>();
      case 3:
        return group<3>();
      case 4:
        return group<4>();
      case 5:
        return group<5>();
      case 6:
        return group<6>();
      default:
        return group<7>();
    }
  }

  void finish() {
    while (piece_ != pieces_) piece();
  }

 private:
  [[gnu::always_inline]] void next_step() {
    const std::int64_t panel = piece_ / 8 / steps_, step = piece_ / 8 % steps_;
    const std::uint8_t* chunk = panels_[panel] + step / kChunkSteps * P::kChunkBytes;
    step_ = chunk + P::kHeaderBytes + step % kChunkSteps * P::kStepBytes;
    for (std::int64_t i = 0; i < P::kStepBytes; i += 64)
      __builtin_prefetch(step_ + kAhead + i, 0, 2);
    out_ = to_ + (panel * (kDepth / kTileDepth) + step) * kTileBytes;
    if constexpr (!P::kIsFloat) scales_.prepare(chunk, step_);
  }
  template <int g>
  [[gnu::always_inline]] void group() {
    TileRows rows;
    if constexpr (P::kIsFloat)
      rows = float_group_at<Block, g>(step_);
    else
      rows = group_at<Block, g>(scales_, step_);
    _mm512_store_si512(out_ + 128 * g, rows.first);
    _mm512_store_si512(out_ + 128 * g + 64, rows.second);
    ++piece_;
  }

  static constexpr std::int64_t kAhead = 2 * P::kChunkBytes;
  struct NoScales {};
  const std::uint8_t* panels_[2];
  const std::uint8_t* step_ = nullptr;
  char* to_ = nullptr;
  char* out_ = nullptr;
  std::int64_t steps_ = 1, piece_ = 0, pieces_ = 0;
  std::conditional_t<P::kIsFloat, NoScales, GroupScales<P>> scales_;
};

// Adds the products of a slab of two panels and a block of columns to tiles 0 to 3; between(kt)
// runs after each tile of k. kColumnTiles = 1: the second tile of columns and its sums do not
// exist.
template <int kColumnTiles, class Between>
[[gnu::always_inline]] inline void multiply_slab(const char* x, const char* w, std::int64_t k_tiles,
                                                 Between between) {
  const char* second = w + kDepth / kTileDepth * kTileBytes;
  for (std::int64_t kt = 0; kt < k_tiles; ++kt) {
    tile_load_once<4>(x);
    tile_load<6>(w);
    tile_load<7>(second);
    tile_multiply_add<0, 4, 6>();
    if constexpr (kColumnTiles == 2) tile_load_once<5>(x + kTileBytes);
    tile_multiply_add<1, 4, 7>();
    if constexpr (kColumnTiles == 2) {
      tile_multiply_add<2, 5, 6>();
      tile_multiply_add<3, 5, 7>();
    }
    x += kColumnTiles * kTileBytes;
    w += kTileBytes;
    second += kTileBytes;
    between(kt);
  }
}

template <class Block>
class Gemm {
 public:
  using P = PanelOf<Block>;

  explicit Gemm(const GemmArgs& a)
      : a_(a),
        layout_(a.k, a.num_cols),
        slabs_(tiles_of(a.k, kDepth)),
        panel_bytes_(P::bytes(a.k)) {
    auto* p = static_cast<char*>(a.scratch);
    expanded_[0] = p;
    expanded_[1] = p + kExpandedBytes;
    partial_ = p + 2 * kExpandedBytes;
    sums_ = partial_ + kSumsBytes;
  }

  void run() {
    configure_tiles();
    for (std::int64_t c = 0; c < a_.num_cols; c += kMaxColumns) columns(c);
    release_tiles();
  }

 private:
  // Pairs of panels follow one another, then slabs, then groups of panels.
  struct Place {
    std::int64_t group, slab, panel;  // first panel of the group; index of slab; first of the pair
  };

  std::int64_t group_end(const Place& at) const {
    return smaller(at.group + kGroupPanels, a_.panel_end);
  }
  Place after(Place at) const {
    at.panel += 2;
    if (at.panel < group_end(at)) return at;
    if (++at.slab == slabs_) {
      at.group = group_end(at);
      at.slab = 0;
    }
    at.panel = at.group;
    return at;
  }
  bool exists(const Place& at) const { return at.group < a_.panel_end; }
  void start_expanding(const Place& at, char* to) {
    const std::int64_t slab = at.slab * (kDepth / kPanelChunk) * P::kChunkBytes;
    const auto panel = [&](std::int64_t i) {
      return static_cast<const std::uint8_t*>(a_.w) + i * panel_bytes_ + slab;
    };
    expansion_.start(panel(at.panel), panel(smaller(at.panel + 1, a_.panel_end - 1)),
                     layout_.slab_tiles(at.slab), to);
  }

  // Columns first .. first + kMaxColumns - 1 of all rows.
  void columns(std::int64_t first) {
    first_column_ = first;
    num_columns_ = smaller(kMaxColumns, a_.num_cols - first);
    Place at{a_.panel_begin, 0, a_.panel_begin};
    int current = 0;
    start_expanding(at, expanded_[current]);
    expansion_.finish();
    while (exists(at)) {
      const Place next = after(at);
      if (exists(next)) start_expanding(next, expanded_[1 - current]);
      pair(at, expanded_[current]);
      expansion_.finish();
      current = 1 - current;
      at = next;
    }
  }

  void pair(const Place& at, const char* weights) {
    const std::int64_t k_tiles = layout_.slab_tiles(at.slab);
    const std::int64_t blocks = tiles_of(num_columns_, kBlockColumns);
    const bool begins = at.slab == 0, ends = at.slab == slabs_ - 1;
    const std::int64_t pieces = tiles_of(expansion_.pieces(), blocks * k_tiles);
    const std::int64_t lines = tiles_of(64, k_tiles);  // to fetch per tile of k
    const std::int64_t row = at.panel * kPanelRows;
    const std::int64_t rows =
        smaller(smaller(kPairRows, a_.rows - row), (a_.panel_end - at.panel) * kPanelRows);
    char* sums = sums_ + (at.panel - at.group) / 2 * (kMaxColumns / 32) * kSumsBytes;
    for (std::int64_t i = 0; i < blocks; ++i, sums += kSumsBytes) {
      const std::int64_t block = first_column_ / kBlockColumns + i;
      const std::int64_t column = block * kBlockColumns;
      const char* x = static_cast<const char*>(a_.x) + layout_.block_offset(at.slab, block);
      float* y = a_.y + column * a_.y_stride + row;
      const std::int64_t columns = smaller(kBlockColumns, a_.num_cols - column);
      const bool wide = columns > kTileColumns;

      zero_or_load(begins, wide, sums);
      const auto between = [&](std::int64_t kt) __attribute__((always_inline)) {
        if (ends) {  // the results of the next block
          for (std::int64_t line = kt * lines; line < (kt + 1) * lines; line += 2) {
            const float* next = y + (kBlockColumns + line / 2) * a_.y_stride;
            __builtin_prefetch(next, 1, 3);
            __builtin_prefetch(next + 16, 1, 3);
          }
        } else {
          for (std::int64_t line = kt * lines; line < (kt + 1) * lines; ++line)
            __builtin_prefetch(sums + kSumsBytes + 64 * line, 1, 3);
        }
        for (std::int64_t p = 0; p < pieces; ++p) expansion_.piece();
      };
      if (wide)
        multiply_slab<2>(x, weights, k_tiles, between);
      else
        multiply_slab<1>(x, weights, k_tiles, between);

      if (!ends)
        store(sums, wide);
      else if (rows == kPairRows && columns % kTileColumns == 0)
        store_result(y, wide);
      else
        store_part(y, rows, columns, wide);
    }
  }

  // Sums: [two tiles of columns][two of rows]
  static void zero_or_load(bool zero, bool wide, const char* sums) {
    if (zero) {
      tile_zero<0>();
      tile_zero<1>();
      tile_zero<2>();
      tile_zero<3>();
      return;
    }
    tile_load<0>(sums);
    tile_load<1>(sums + kTileBytes);
    if (!wide) return;
    tile_load<2>(sums + 2 * kTileBytes);
    tile_load<3>(sums + 3 * kTileBytes);
  }
  static void store(char* sums, bool wide) {
    tile_store<0>(sums);
    tile_store<1>(sums + kTileBytes);
    if (!wide) return;
    tile_store<2>(sums + 2 * kTileBytes);
    tile_store<3>(sums + 3 * kTileBytes);
  }
  void store_result(float* y, bool wide) const {
    const std::int64_t stride = a_.y_stride * static_cast<std::int64_t>(sizeof(float));
    tile_store<0>(y, stride);
    tile_store<1>(y + kPanelRows, stride);
    if (!wide) return;
    y += kTileColumns * a_.y_stride;
    tile_store<2>(y, stride);
    tile_store<3>(y + kPanelRows, stride);
  }
  void store_part(float* y, std::int64_t rows, std::int64_t columns, bool wide) const {
    store(partial_, wide);
    for (std::int64_t c = 0; c < columns; ++c, y += a_.y_stride) {
      for (std::int64_t half = 0; half < 2; ++half) {
        const std::int64_t n = rows - half * kPanelRows;
        if (n <= 0) break;
        const char* from =
            partial_ + (c / kTileColumns * 2 + half) * kTileBytes + c % kTileColumns * 64;
        Iv::store(y + half * kPanelRows, _mm512_load_ps(from), n);
      }
    }
  }

  const GemmArgs a_;
  const PackedLayout layout_;
  const std::int64_t slabs_;
  const std::int64_t panel_bytes_;
  Expansion<Block> expansion_;
  std::int64_t first_column_ = 0, num_columns_ = 0;
  char* expanded_[2];
  char* partial_;  // results of a block that does not fill its tiles
  char* sums_;     // those to be continued
};

template <class Block>
void gemm(const GemmArgs& a) {
  if (a.panel_begin < a.panel_end && a.num_cols > 0) Gemm<Block>(a).run();
}

void spin(std::int64_t products) {
  configure_tiles();
  for (std::int64_t i = 0; i < products; i += 4) {
    tile_multiply_add<0, 4, 6>();
    tile_multiply_add<1, 4, 7>();
    tile_multiply_add<2, 5, 6>();
    tile_multiply_add<3, 5, 7>();
  }
  release_tiles();
}

}  // namespace

void install_amx_gemm(Kernels& k) {
  k.gemm.spin = spin;
  // Against panels over weights in memory, two threads of a Xeon with AMX, Gop/s, panels : these.
  // Q4_0 at 32 columns 1,010 : 790, at 48 1,050 : 980, at 64 1,090 : 1,200; Q4_K alike; Q6_K, whose
  // panels take two tile products, 460 : 525 at 24. F16, GB/s of weights at 16, 24 and 32 columns:
  // 13 : 8.5, 9.7 : 9.1, 7.6 : 9.2.
  k.gemm.min_cols[static_cast<int>(quant::ActivationType::kQ8x32)] = 40;
  k.gemm.min_cols[static_cast<int>(quant::ActivationType::kFloat)] = 28;
  k.gemm.scratch_bytes = kScratchBytes;
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  k.gemm.gemm[static_cast<int>(quant::Format::k##name)] = gemm<quant::Block>;
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace rocmforge::cpu
