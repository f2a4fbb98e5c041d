// Products of many columns by matrix tiles.
//
// 32 rows times 512 of k are expanded into a panel of bfloat16 (32 KB) and multiplied with all
// columns, 32 at a time: two tiles of rows by two of columns, their four sums in tile registers.
// Sums that another slab of k will continue lie in a buffer in L2 in between (kGroupRows rows by
// kMaxColumns columns); finished ones are transposed into y. Rows are the first operand of the tile
// product, because they lie in memory as it wants them; so a tile of sums has a row of weights in
// each row, and y wants the other way around.
//
// Everything else happens between the tile instructions, which leave the vector units idle: the
// next panel is expanded, the previous block's sums go to y, the next block's sums are fetched.
//
// One (row, column) is computed the same way wherever its tile lies: k in order, 32 at a time.
#include "cpu/amx/expand_k.hpp"
#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kPanelRows = 32;
constexpr std::int64_t kGroupRows = 256;
constexpr std::int64_t kMaxColumns = 512;
constexpr std::int64_t kPanelBytes = kPanelRows * kDepth * 2;
constexpr std::int64_t kSumsBytes = 4 * kTileBytes;  // of 32 rows by 32 columns
constexpr std::int64_t kScratchBytes =
    2 * kPanelBytes + kSumsBytes + kGroupRows / kPanelRows * (kMaxColumns / 32) * kSumsBytes;

// A panel: [k tile][two tiles of 16 rows][16 rows][32 of k].
struct PanelSource {
  const char* w;  // first weight of the first row
  std::int64_t rows;
  std::int64_t n;  // weights of a row
};

// Expands a panel in small steps. Rows beyond the last keep what the panel held: a row of a tile
// never reaches another row's sums.
template <class Block>
class Expansion {
 public:
  Expansion(std::int64_t row_bytes) : row_bytes_(row_bytes) {}

  // `ahead` is where the panel after this one begins, for the prefetcher.
  void start(const PanelSource& source, char* panel, const char* ahead) {
    w_ = source.w;
    n_ = source.n;
    steps_ = (n_ + 63) / 64;
    rows_ = source.rows;
    panel_ = panel;
    ahead_ = ahead - source.w;
    row_ = 0;
    step_ = 0;
  }
  std::int64_t all_steps() const { return rows_ * steps_; }

  // The next 64 weights, if there are any left.
  [[gnu::always_inline]] void step() {
    if (row_ == rows_) return;
    if (step_ == 0) {
      Expander<Block>::prepare(scales_, w_, n_);
    }
    constexpr std::int64_t kStepBytes = 64 * sizeof(Block) / kWeights;
    prefetch(w_ + ahead_ + step_ * kStepBytes, kStepBytes);
    char* to = panel_ + (2 * step_ * 2 + row_ / 16) * kTileBytes + row_ % 16 * 64;
    const Pair pair = 64 * (step_ + 1) <= n_ ? Expander<Block>::step(scales_, w_, step_) : tail();
    _mm512_store_si512(to, pair.first);
    _mm512_store_si512(to + 2 * kTileBytes, pair.second);
    if (++step_ == steps_) {
      step_ = 0;
      ++row_;
      w_ += row_bytes_;
    }
  }

  void finish() {
    while (row_ != rows_) step();
  }

 private:
  static constexpr std::int64_t kWeights = quant::BlockTraits<Block>::kWeights;

  // The last weights of a row, fewer than 64, and zeros.
  [[gnu::noinline]] Pair tail() const {
    alignas(64) float values[64] = {};
    const auto* blocks = reinterpret_cast<const Block*>(w_);
    for (std::int64_t i = 64 * step_; i < n_; ++i)
      values[i - 64 * step_] = quant::decode(blocks[i / kWeights], static_cast<int>(i % kWeights));
    return {rounded(_mm512_load_ps(values), _mm512_load_ps(values + 16)),
            rounded(_mm512_load_ps(values + 32), _mm512_load_ps(values + 48))};
  }

  std::int64_t row_bytes_;
  const char* w_ = nullptr;
  std::int64_t ahead_ = 0;
  std::int64_t n_ = 0, steps_ = 0, rows_ = 0, row_ = 0, step_ = 0;
  char* panel_ = nullptr;
  typename Expander<Block>::Scales scales_;
};

// Carries the sums of finished blocks to y, four columns of sixteen rows at a time.
class Output {
 public:
  // `sums`: [two tiles of rows][two of columns]
  void start(const char* sums, float* y, std::int64_t y_stride, std::int64_t rows,
             std::int64_t columns) {
    sums_ = sums;
    y_ = y;
    y_stride_ = y_stride;
    rows_ = rows;
    columns_ = columns;
    next_ = 0;
    end_ = 2 * tiles_of(columns, 4);  // two halves of the rows, fours of columns
  }

  [[gnu::always_inline]] void step() {
    if (next_ == end_) return;
    const std::int64_t half = next_ % 2, four = next_ / 2;
    ++next_;
    const std::int64_t rows = rows_ - 16 * half;
    if (rows <= 0) return;
    const auto mask = static_cast<__mmask16>(rows >= 16 ? 0xffff : (1 << rows) - 1);
    __m512i columns[4];
    tile_columns(columns, sums_ + (2 * half + four / 4) * kTileBytes, static_cast<int>(four % 4));
    float* y = y_ + 4 * four * y_stride_ + 16 * half;
    const std::int64_t count = smaller(4, columns_ - 4 * four);
    for (std::int64_t c = 0; c < count; ++c)
      _mm512_mask_storeu_ps(y + c * y_stride_, mask, _mm512_castsi512_ps(columns[c]));
  }

  void finish() {
    while (next_ != end_) step();
  }

 private:
  const char* sums_ = nullptr;
  float* y_ = nullptr;
  std::int64_t y_stride_ = 0, rows_ = 0, columns_ = 0;
  std::int64_t next_ = 0, end_ = 0;
};

// Adds the products of a panel and a block of columns to tiles 0 to 3; between(kt) runs after each
// tile of k. kColumnTiles = 1: the second tile of columns and its sums do not exist.
template <int kColumnTiles, class Between>
[[gnu::always_inline]] inline void multiply(const char* panel, const char* x, std::int64_t k_tiles,
                                            Between between) {
  for (std::int64_t kt = 0; kt < k_tiles; ++kt) {
    tile_load_once<6>(x);
    tile_load<4>(panel);
    tile_load<5>(panel + kTileBytes);
    tile_multiply_add<0, 4, 6>();
    if constexpr (kColumnTiles == 2) tile_load_once<7>(x + kTileBytes);
    tile_multiply_add<2, 5, 6>();
    if constexpr (kColumnTiles == 2) {
      tile_multiply_add<1, 4, 7>();
      tile_multiply_add<3, 5, 7>();
    }
    x += kColumnTiles * kTileBytes;
    panel += 2 * kTileBytes;
    between(kt);
  }
}

template <class Block>
class Gemm {
 public:
  explicit Gemm(const GemmArgs& a)
      : a_(a), layout_(a.k, a.num_cols), slabs_(tiles_of(a.k, kDepth)), expansion_(a.row_bytes) {
    auto* p = static_cast<char*>(a.scratch);
    panels_[0] = p;
    panels_[1] = p + kPanelBytes;
    finished_ = p + 2 * kPanelBytes;
    sums_ = finished_ + kSumsBytes;
  }

  void run() {
    configure_tiles();
    for (std::int64_t c = 0; c < a_.num_cols; c += kMaxColumns) columns(c);
    release_tiles();
  }

 private:
  // Panels follow one another by rows, then slabs, then groups of rows.
  struct Place {
    std::int64_t group, slab, panel;  // first row of the group; index of slab; first row of panel
  };

  std::int64_t group_end(const Place& at) const {
    return smaller(at.group + kGroupRows, a_.row_end);
  }
  Place after(Place at) const {
    at.panel += kPanelRows;
    if (at.panel < group_end(at)) return at;
    if (++at.slab == slabs_) {
      at.group = group_end(at);
      at.slab = 0;
    }
    at.panel = at.group;
    return at;
  }
  bool exists(const Place& at) const { return at.group < a_.row_end; }
  PanelSource source(const Place& at) const {
    constexpr std::int64_t kWeights = quant::BlockTraits<Block>::kWeights;
    const std::int64_t offset =
        at.slab * (kDepth / kWeights) * static_cast<std::int64_t>(sizeof(Block));
    return {static_cast<const char*>(a_.w) + at.panel * a_.row_bytes + offset,
            smaller(kPanelRows, a_.row_end - at.panel), smaller(kDepth, a_.k - at.slab * kDepth)};
  }
  void start_expanding(const Place& at, char* panel) {
    const Place next = after(at);
    expansion_.start(source(at), panel, source(exists(next) ? next : at).w);
  }

  // Columns first .. first + kMaxColumns - 1 of all rows.
  void columns(std::int64_t first) {
    first_column_ = first;
    num_columns_ = smaller(kMaxColumns, a_.num_cols - first);
    Place at{a_.row_begin, 0, a_.row_begin};
    int current = 0;
    start_expanding(at, panels_[current]);
    expansion_.finish();
    while (exists(at)) {
      const Place next = after(at);
      if (exists(next)) start_expanding(next, panels_[1 - current]);
      panel(at, panels_[current]);
      expansion_.finish();
      current = 1 - current;
      at = next;
    }
    output_.finish();
  }

  void panel(const Place& at, const char* weights) {
    const std::int64_t k_tiles = layout_.slab_tiles(at.slab);
    const std::int64_t blocks = tiles_of(num_columns_, kBlockColumns);
    const bool begins = at.slab == 0, ends = at.slab == slabs_ - 1;
    const std::int64_t steps = tiles_of(expansion_.all_steps(), blocks * k_tiles);
    const std::int64_t lines = 64 / k_tiles;  // to fetch per tile of k, rounded down
    char* sums = sums_ + (at.panel - at.group) / kPanelRows * (kMaxColumns / 32) * kSumsBytes;
    for (std::int64_t i = 0; i < blocks; ++i, sums += kSumsBytes) {
      const std::int64_t block = first_column_ / kBlockColumns + i;
      const std::int64_t column = block * kBlockColumns;
      const char* x = static_cast<const char*>(a_.x) + layout_.block_offset(at.slab, block);
      float* y = a_.y + column * a_.y_stride + at.panel;
      const std::int64_t columns = smaller(kBlockColumns, a_.num_cols - column);
      const bool wide = columns > kTileColumns;

      tile_zero_or_load(begins, wide, sums);
      const auto between = [&](std::int64_t kt) __attribute__((always_inline)) {
        output_.step();
        if (ends) {
          for (std::int64_t line = kt * lines; line < (kt + 1) * lines; line += 2)
            if (line / 2 < columns) {
              __builtin_prefetch(y + line / 2 * a_.y_stride, 1, 3);
              __builtin_prefetch(y + line / 2 * a_.y_stride + 16, 1, 3);
            }
        } else {
          for (std::int64_t line = kt * lines; line < (kt + 1) * lines; ++line)
            __builtin_prefetch(sums + kSumsBytes + 64 * line, 1, 3);
        }
        for (std::int64_t s = 0; s < steps; ++s) expansion_.step();
      };
      if (wide)
        multiply<2>(weights, x, k_tiles, between);
      else
        multiply<1>(weights, x, k_tiles, between);

      output_.finish();
      if (ends) {
        store(finished_, wide);
        output_.start(finished_, y, a_.y_stride, smaller(kPanelRows, a_.row_end - at.panel),
                      columns);
      } else {
        store(sums, wide);
      }
    }
  }

  static void tile_zero_or_load(bool zero, bool wide, const char* sums) {
    if (zero) {
      tile_zero<0>();
      tile_zero<1>();
      tile_zero<2>();
      tile_zero<3>();
      return;
    }
    tile_load<0>(sums);
    tile_load<2>(sums + 2 * kTileBytes);
    if (!wide) return;
    tile_load<1>(sums + kTileBytes);
    tile_load<3>(sums + 3 * kTileBytes);
  }
  static void store(char* sums, bool wide) {
    tile_store<0>(sums);
    tile_store<2>(sums + 2 * kTileBytes);
    if (!wide) return;
    tile_store<1>(sums + kTileBytes);
    tile_store<3>(sums + 3 * kTileBytes);
  }

  const GemmArgs a_;
  const PackedLayout layout_;
  const std::int64_t slabs_;
  Expansion<Block> expansion_;
  Output output_;
  std::int64_t first_column_ = 0, num_columns_ = 0;
  char* panels_[2];
  char* finished_;  // the sums that output_ carries
  char* sums_;      // those to be continued
};

template <class Block>
void gemm(const GemmArgs& a) {
  if (a.row_begin < a.row_end && a.num_cols > 0) Gemm<Block>(a).run();
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
  // Against the per-column kernels of AVX-512 over weights in the cache, one thread of a Xeon with
  // AMX, Gop/s at 12 and at 16 columns: Q4_0 231 : 135, 337 : 141; Q8_0 210 : 131, 284 : 133; Q4_K
  // 192 : 173, 255 : 164; Q6_K 159 : 192, 207 : 186; Q3_K 165 : 172, 219 : 171; F16 179 : 83,
  // 234 : 83.
  k.gemm.min_cols = 16;
  k.gemm.scratch_bytes = kScratchBytes;
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  k.gemm.gemm[static_cast<int>(quant::Format::k##name)] = gemm<quant::Block>;
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace rocmforge::cpu
