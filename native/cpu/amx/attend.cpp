// Attention of many query rows by matrix tiles, with an online softmax over 64 positions at a
// time.
//
// Keys and values of 64 positions are converted to tiles of bfloat16 once for all rows of the
// call, which then pass by 32 at a time: scores (two tiles of rows by two of positions), weights by
// vector units, values (two tiles of rows by two of columns). All of that lies in the first two
// levels of the cache.
//
// A row of a tile is computed from that row of its factor alone, so rows do not influence each
// other, wherever they lie. What a row does not see has a weight of 0, which adds nothing; a value
// that is not finite would, so such tiles are multiplied row by row, without the values that the
// row does not see.
#include "cpu/amx/round.hpp"
#include "cpu/amx/tiles.hpp"
#include "cpu/avx512/vec.hpp"
#include "cpu/installers.hpp"
// It uses Vec.
#include "cpu/attend_types.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kPositions = kAttendTile;  // of a turn; 128 are slower, 256 no faster
constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kBlockRows = 32;  // two tiles
constexpr std::int64_t kStep = 32;       // elements of a tile's row: of heads or of positions
constexpr std::int64_t kSteps = kPositions / kStep;
static_assert(kPositions % kStep == 0 && kAttendMaxRows % kBlockRows == 0);

constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

// The parts of AttendArgs::scratch, in bytes; each is a number of cache lines.
struct Layout {
  std::int64_t q;        // [row tile][step of the head][16 rows][32]
  std::int64_t keys;     // [16 positions][step of the head][16 pairs][16 positions][2]
  std::int64_t values;   // [step of positions][16 columns][16 pairs][16 columns][2]
  std::int64_t seen;     // the values that one row sees
  std::int64_t weights;  // [tile of the block][step of positions][16 rows][32]
  std::int64_t scores;   // [kBlockRows][kPositions]
  std::int64_t sums;     // [kAttendMaxRows][16 lanes] of weights
  std::int64_t maximum;  // [kAttendMaxRows]
  std::int64_t last;     // [16][value_dim]: a.values of a last tile of rows that is not full
  std::int64_t one;      // the same, where one row is computed
  std::int64_t bytes;

  Layout(std::int64_t head_dim, std::int64_t value_dim) {
    constexpr std::int64_t kFloat = sizeof(float), kHalf = 2;
    const std::int64_t head = ceil_div(head_dim, kStep) * kStep;
    q = 0;
    keys = q + kAttendMaxRows * head * kHalf;
    values = keys + kPositions * head * kHalf;
    seen = values + kPositions * value_dim * kHalf;
    weights = seen + kPositions * value_dim * kHalf;
    scores = weights + kBlockRows * kPositions * kHalf;
    sums = scores + kBlockRows * kPositions * kFloat;
    maximum = sums + kAttendMaxRows * 16 * kFloat;
    last = maximum + kAttendMaxRows * kFloat;
    one = last + kTileRows * value_dim * kFloat;
    bytes = one + kTileRows * value_dim * kFloat;
  }
};

// exp(x) for x <= 0, relative error 2^-13: a weight is rounded to bfloat16. 2^f on [0, 1) by a
// polynomial of degree 3 of least relative error. At -infinity vreduceps gives 0.
[[gnu::always_inline]] inline __m512 weight(__m512 x) {
  const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  const __m512 f = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_set1_ps(0.0780245215f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.2260671705f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.6958335042f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.9999251962f));
  return _mm512_scalef_ps(p, t);
}

// sum += the float32 values of 32 bfloat16.
[[gnu::always_inline]] inline __m512 add_pairs(__m512 sum, __m512i pairs) {
  const __m512i even = _mm512_slli_epi32(pairs, 16);
  const __m512i odd = _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
  return _mm512_add_ps(_mm512_add_ps(sum, _mm512_castsi512_ps(even)), _mm512_castsi512_ps(odd));
}

[[gnu::always_inline]] inline bool has_nonfinite(__m512i pairs) {
  const __m512i exponent = _mm512_set1_epi16(0x7f80);
  return _mm512_cmpeq_epi16_mask(_mm512_and_si512(pairs, exponent), exponent) != 0;
}

template <class Type>
class TileAttention {
 public:
  explicit TileAttention(const AttendArgs& a)
      : a_(a),
        head_steps_(ceil_div(a.head_dim, kStep)),
        columns_(a.value_dim / 16),
        row_tiles_(ceil_div(a.rows, kTileRows)),
        key_row_bytes_(kv_row_bytes(Type::kType, a.head_dim)),
        value_row_bytes_(kv_row_bytes(Type::kType, a.value_dim)) {
    const Layout layout(a.head_dim, a.value_dim);
    auto* p = static_cast<char*>(a.scratch);
    const auto floats = [p](std::int64_t at) { return reinterpret_cast<float*>(p + at); };
    q_ = p + layout.q;
    keys_ = p + layout.keys;
    values_ = p + layout.values;
    seen_ = p + layout.seen;
    weights_ = p + layout.weights;
    scores_ = floats(layout.scores);
    sums_ = floats(layout.sums);
    maximum_ = floats(layout.maximum);
    last_ = floats(layout.last);
    one_ = floats(layout.one);
  }

  void run() {
    start();
    configure_tiles();
    for (position_ = a_.begin; position_ < a_.end; position_ += kPositions) {
      count_ = a_.end - position_ < kPositions ? a_.end - position_ : kPositions;
      convert_keys();
      convert_values();
      for (std::int64_t t = 0; t < row_tiles_; t += 2)
        if (t + 1 < row_tiles_)
          block<2>(t);
        else
          block<1>(t);
    }
    release_tiles();
    finish();
  }

 private:
  void start() {
    for (std::int64_t r = 0; r < row_tiles_ * kTileRows; ++r) {
      maximum_[r] = -INFINITY;
      _mm512_store_ps(sums_ + 16 * r, _mm512_setzero_ps());
      float* y = tile_values(r / kTileRows) + r % kTileRows * a_.value_dim;
      for (std::int64_t i = 0; i < a_.value_dim; i += 16)
        _mm512_storeu_ps(y + i, _mm512_setzero_ps());
      for (std::int64_t s = 0; s < head_steps_; ++s) {
        const __m512i q = r < a_.rows
                              ? rounded(a_.q + r * a_.head_dim + s * kStep, a_.head_dim - s * kStep)
                              : _mm512_setzero_si512();
        char* tile = q_ + (r / kTileRows * head_steps_ + s) * kTileBytes;
        _mm512_store_si512(tile + r % kTileRows * 64, q);
      }
    }
  }

  void finish() {
    for (std::int64_t r = 0; r < a_.rows; ++r) {
      a_.maximum[r] = maximum_[r];
      a_.sum[r] = _mm512_reduce_add_ps(_mm512_load_ps(sums_ + 16 * r));
    }
    const std::int64_t full = a_.rows / kTileRows * kTileRows;
    for (std::int64_t i = 0; i < (a_.rows - full) * a_.value_dim; ++i)
      a_.values[full * a_.value_dim + i] = last_[i];
  }

  // [16][value_dim] sums of weight * value.
  float* tile_values(std::int64_t tile) const {
    return (tile + 1) * kTileRows <= a_.rows ? a_.values + tile * kTileRows * a_.value_dim : last_;
  }

  // Of the positions of this turn, how many a row sees.
  std::int64_t visible(std::int64_t row) const {
    const std::int64_t n = row < a_.rows ? a_.seen[row] - position_ : 0;
    return n < 0 ? 0 : n < count_ ? n : count_;
  }

  // 16 positions of the next turn; memory is read while this one is computed.
  void prefetch(const void* base, std::int64_t position, std::int64_t row_bytes) const {
    if (position + kPositions >= a_.stored) return;
    const auto* group =
        reinterpret_cast<const char*>(paged(a_, base, position + kPositions, row_bytes));
    for (std::int64_t i = 0; i < kKvLanes * row_bytes; i += 64) __builtin_prefetch(group + i, 0, 2);
  }

  // An even number of groups; positions beyond the last group are zeros.
  void convert_keys() {
    for (std::int64_t g = 0; g < ceil_div(count_, kStep) * 2; ++g) {
      char* to = keys_ + g * head_steps_ * kTileBytes;
      std::int64_t d = 0;
      if (g * kKvLanes < count_) {
        const std::byte* group = paged(a_, a_.k_base, position_ + g * kKvLanes, key_row_bytes_);
        prefetch(a_.k_base, position_ + g * kKvLanes, key_row_bytes_);
        typename Type::template Keys<1> from(&group, 0);
        for (; d < a_.head_dim; d += 2, to += 64) {
          if (d % 32 == 0) from.enter(d);
          const __m512 odd = d + 1 < a_.head_dim ? from.at(d + 1, 0).v : _mm512_setzero_ps();
          _mm512_store_si512(to, rounded(from.at(d, 0).v, odd));
        }
      }
      for (; d < head_steps_ * kStep; d += 2, to += 64)
        _mm512_store_si512(to, _mm512_setzero_si512());
    }
  }

  // Whole steps; positions beyond the last are zeros.
  void convert_values() {
    finite_ = true;
    for (std::int64_t p = 0; p < ceil_div(count_, kStep) * kStep; p += 2) {
      char* to = values_ + p / kStep * columns_ * kTileBytes + p % kStep / 2 * 64;
      if (p >= count_) {
        for (std::int64_t c = 0; c < columns_; ++c, to += kTileBytes)
          _mm512_store_si512(to, _mm512_setzero_si512());
        continue;
      }
      // A pair lies in one block: those are of 16 and more positions.
      if (p % kKvLanes == 0) prefetch(a_.v_base, position_ + p, value_row_bytes_);
      const std::byte* even = paged(a_, a_.v_base, position_ + p, value_row_bytes_);
      const std::byte* odd = even + value_row_bytes_;
      const bool both = p + 1 < count_;
      for (std::int64_t c = 0; c < columns_; ++c, to += kTileBytes) {
        const __m512i pairs = rounded(Type::value(even, 16 * c).v,
                                      both ? Type::value(odd, 16 * c).v : _mm512_setzero_ps());
        finite_ &= !has_nonfinite(pairs);
        _mm512_store_si512(to, pairs);
      }
    }
  }

  // All of the turn for a block of one or two tiles of rows.
  template <int kTiles>
  void block(std::int64_t tile) {
    std::int64_t seen[kTiles * kTileRows], most = 0;
    for (std::int64_t r = 0; r < kTiles * kTileRows; ++r) {
      seen[r] = visible(tile * kTileRows + r);
      most = seen[r] > most ? seen[r] : most;
    }
    const std::int64_t steps = ceil_div(most, kStep);
    if (steps == 0) return;
    multiply_keys<kTiles>(tile, steps);
    bool partly = false;
    for (int t = 0; t < kTiles; ++t) {
      bool all = true;
      for (std::int64_t r = t * kTileRows; r < (t + 1) * kTileRows; ++r)
        all = all && seen[r] == kPositions;
      if (all)
        soften<false>(tile + t, t, kSteps, seen + t * kTileRows);
      else
        soften<true>(tile + t, t, steps, seen + t * kTileRows);
      partly = partly || !all;
    }
    if (finite_ || !partly)
      add_values<kTiles>(tile, steps);
    else
      for (int t = 0; t < kTiles; ++t) add_seen_values(tile + t, t, steps, seen + t * kTileRows);
  }

  template <int kTiles>
  void multiply_keys(std::int64_t tile, std::int64_t steps) {
    constexpr std::int64_t kStride = kPositions * 4;
    const char* q = q_ + tile * head_steps_ * kTileBytes;
    for (std::int64_t i = 0; i < steps; ++i) {
      const char* keys = keys_ + 2 * i * head_steps_ * kTileBytes;
      tile_zero<0>();
      tile_zero<1>();
      if constexpr (kTiles == 2) tile_zero<2>();
      if constexpr (kTiles == 2) tile_zero<3>();
      for (std::int64_t s = 0; s < head_steps_; ++s) {
        tile_load<4>(q + s * kTileBytes);
        tile_load<6>(keys + s * kTileBytes);
        tile_load<7>(keys + (head_steps_ + s) * kTileBytes);
        tile_multiply_add<0, 4, 6>();
        if constexpr (kTiles == 2) tile_load<5>(q + (head_steps_ + s) * kTileBytes);
        tile_multiply_add<1, 4, 7>();
        if constexpr (kTiles == 2) {
          tile_multiply_add<2, 5, 6>();
          tile_multiply_add<3, 5, 7>();
        }
      }
      float* to = scores_ + i * kStep;
      tile_store<0>(to, kStride);
      tile_store<1>(to + 16, kStride);
      if constexpr (kTiles == 2) {
        tile_store<2>(to + kTileRows * kPositions, kStride);
        tile_store<3>(to + kTileRows * kPositions + 16, kStride);
      }
    }
  }

  // Turns the scores of tile `t` of the block into weights against the rows' maxima so far.
  // kMasked: rows see a part of the positions; otherwise all of kSteps.
  template <bool kMasked>
  void soften(std::int64_t tile, int t, std::int64_t steps, const std::int64_t* seen) {
    const float* scores = scores_ + t * kTileRows * kPositions;
    alignas(64) float highest[kTileRows];
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      Vec high = Vec::set(-INFINITY);
      // A NaN score is not the maximum; it becomes a NaN weight.
      for (std::int64_t i = 0; i < 2 * (kMasked ? steps : kSteps); ++i) {
        Vec score = Vec::load(scores + r * kPositions + 16 * i);
        if constexpr (kMasked)
          score.v = _mm512_mask_blend_ps(first_lanes(seen[r] - 16 * i), _mm512_set1_ps(-INFINITY),
                                         score.v);
        high = Vec::max(score, high);
      }
      highest[r] = high.highest();
    }
    float* maximum = maximum_ + tile * kTileRows;
    const __m512 before = _mm512_load_ps(maximum);
    const __m512 now = _mm512_max_ps(_mm512_load_ps(highest), before);
    _mm512_store_ps(maximum, now);
    const __mmask16 grown = _mm512_cmp_ps_mask(now, before, _CMP_NEQ_OQ);
    if (grown) shrink(tile, grown, Vec::exp({_mm512_sub_ps(before, now)}));

    char* out = weights_ + t * kSteps * kTileBytes;
    float* sums = sums_ + tile * kTileRows * 16;
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      const __m512 high = _mm512_set1_ps(maximum[r]);
      __m512 sum = _mm512_load_ps(sums + 16 * r);
#pragma GCC unroll 4
      for (std::int64_t i = 0; i < (kMasked ? steps : kSteps); ++i) {
        const float* score = scores + r * kPositions + kStep * i;
        __m512 low = weight(_mm512_sub_ps(_mm512_load_ps(score), high));
        __m512 up = weight(_mm512_sub_ps(_mm512_load_ps(score + 16), high));
        if constexpr (kMasked) {
          low = _mm512_maskz_mov_ps(first_lanes(seen[r] - kStep * i), low);
          up = _mm512_maskz_mov_ps(first_lanes(seen[r] - kStep * i - 16), up);
        }
        const auto pairs = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(up, low));
        _mm512_store_si512(out + i * kTileBytes + 64 * r, pairs);
        sum = add_pairs(sum, pairs);
      }
      _mm512_store_ps(sums + 16 * r, sum);
    }
  }

  // Multiplies what the rows of a tile have summed up by their factors.
  void shrink(std::int64_t tile, __mmask16 rows, Vec factors) {
    alignas(64) float factor[kTileRows];
    factors.store(factor);
    float* y = tile_values(tile);
    float* sums = sums_ + tile * kTileRows * 16;
    for (std::int64_t r = 0; r < kTileRows; ++r, y += a_.value_dim) {
      if (!(rows >> r & 1)) continue;
      const __m512 f = _mm512_set1_ps(factor[r]);
      _mm512_store_ps(sums + 16 * r, _mm512_mul_ps(f, _mm512_load_ps(sums + 16 * r)));
      for (std::int64_t i = 0; i < a_.value_dim; i += 16)
        _mm512_storeu_ps(y + i, _mm512_mul_ps(f, _mm512_loadu_ps(y + i)));
    }
  }

  template <int kTiles>
  void add_values(std::int64_t tile, std::int64_t steps) {
    float* y[2] = {tile_values(tile), kTiles == 2 ? tile_values(tile + 1) : nullptr};
    std::int64_t c = 0;
    for (; c + 2 <= columns_; c += 2) add_columns<kTiles, 2>(y, weights_, values_, c, steps);
    if (c < columns_) add_columns<kTiles, 1>(y, weights_, values_, c, steps);
  }

  // Into y[tile][row][16 c ...]: one or two tiles of columns.
  template <int kTiles, int kColumns>
  [[gnu::always_inline]] void add_columns(float* const* y, const char* weights, const char* values,
                                          std::int64_t c, std::int64_t steps) const {
    const std::int64_t stride = a_.value_dim * 4;
    constexpr std::int64_t kTile = kSteps * kTileBytes;
    tile_load<0>(y[0] + 16 * c, stride);
    if constexpr (kColumns == 2) tile_load<1>(y[0] + 16 * c + 16, stride);
    if constexpr (kTiles == 2) tile_load<2>(y[1] + 16 * c, stride);
    if constexpr (kTiles == 2 && kColumns == 2) tile_load<3>(y[1] + 16 * c + 16, stride);
    for (std::int64_t i = 0; i < steps; ++i) {
      const char* v = values + (i * columns_ + c) * kTileBytes;
      tile_load<4>(weights + i * kTileBytes);
      tile_load<6>(v);
      tile_multiply_add<0, 4, 6>();
      if constexpr (kColumns == 2) {
        tile_load<7>(v + kTileBytes);
        tile_multiply_add<1, 4, 7>();
      }
      if constexpr (kTiles == 2) {
        tile_load<5>(weights + kTile + i * kTileBytes);
        tile_multiply_add<2, 5, 6>();
        if constexpr (kColumns == 2) tile_multiply_add<3, 5, 7>();
      }
    }
    tile_store<0>(y[0] + 16 * c, stride);
    if constexpr (kColumns == 2) tile_store<1>(y[0] + 16 * c + 16, stride);
    if constexpr (kTiles == 2) tile_store<2>(y[1] + 16 * c, stride);
    if constexpr (kTiles == 2 && kColumns == 2) tile_store<3>(y[1] + 16 * c + 16, stride);
  }

  // One row at a time, without the values that it does not see.
  void add_seen_values(std::int64_t tile, int t, std::int64_t steps, const std::int64_t* seen) {
    float* y = tile_values(tile);
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      if (seen[r] == 0) continue;
      for (std::int64_t p = 0; p < steps * kStep; p += 2) {
        const std::int64_t left = seen[r] - p;
        const __mmask32 lanes = left >= 2 ? 0xffffffff : left == 1 ? 0x55555555 : 0;
        const std::int64_t at = p / kStep * columns_ * kTileBytes + p % kStep / 2 * 64;
        for (std::int64_t c = 0; c < columns_; ++c)
          _mm512_store_si512(
              seen_ + at + c * kTileBytes,
              _mm512_maskz_mov_epi16(lanes, _mm512_load_si512(values_ + at + c * kTileBytes)));
      }
      copy(one_ + r * a_.value_dim, y + r * a_.value_dim);
      float* const to[2] = {one_, nullptr};
      for (std::int64_t c = 0; c < columns_; ++c)
        add_columns<1, 1>(to, weights_ + t * kSteps * kTileBytes, seen_, c, steps);
      copy(y + r * a_.value_dim, one_ + r * a_.value_dim);
    }
  }
  void copy(float* to, const float* from) const {
    for (std::int64_t i = 0; i < a_.value_dim; ++i) to[i] = from[i];
  }

  const AttendArgs a_;
  const std::int64_t head_steps_, columns_, row_tiles_, key_row_bytes_, value_row_bytes_;
  char *q_, *keys_, *values_, *seen_, *weights_;
  float *scores_, *sums_, *maximum_, *last_, *one_;
  std::int64_t position_ = 0, count_ = 0;  // of this turn
  bool finite_ = true;                     // its values
};

template <class Type>
void attend(const AttendArgs& a) {
  TileAttention<Type>(a).run();
}

std::int64_t scratch_bytes(std::int64_t head_dim, std::int64_t value_dim) {
  return Layout(head_dim, value_dim).bytes;
}

}  // namespace

void install_amx_attend(Kernels& k) {
  // Against attend_body, ms for 1024 positions in f16 of 4 heads and layers at 4, 8, 16 and 32
  // rows: 64 elements 0.24 : 0.42, 0.39 : 0.42, 0.76 : 0.43, 1.33 : 0.55; 128 elements 0.45 : 0.78,
  // 0.71 : 0.78, 1.34 : 0.73, 3.19 : 1.08.
  k.attend_tiles.min_rows = 16;
  k.attend_tiles.scratch_bytes = scratch_bytes;
  k.attend_tiles.attend[static_cast<int>(KvType::kF16)] = attend<F16>;
  k.attend_tiles.attend[static_cast<int>(KvType::kBf16)] = attend<Bf16>;
  k.attend_tiles.attend[static_cast<int>(KvType::kQ8_0)] = attend<Q8>;
  k.attend_tiles.attend[static_cast<int>(KvType::kF32)] = attend<F32>;
}

}  // namespace rocmforge::cpu
