// Causal attention of many tokens over the paged cache on matrix cores, with an online softmax (Dao
// et al., "FlashAttention", arXiv:2205.14135): a wave owns sixteen neighbouring tokens of a
// sequence for one query head and keeps their queries, scores and sums in registers; the block's
// waves share tiles of keys and, transposed, of values.
//
// Queries times the scale, keys, weights and values are f16 (bf16 where the cache is): keys and
// values of such a cache exactly. Sums are float32.
#include "include/attend_step.hpp"
#include "include/mma_tiles.hpp"

#if RF_HAS_MMA

namespace rocmforge::gpu {
namespace {

constexpr int kKeys = 32;  // positions of a tile: what a thread has registers for
constexpr float kNone = -__builtin_inff();
constexpr float kLog2E = 1.4426950408889634f;

template <class Type>
using MmaType = std::conditional_t<std::is_same_v<Type, KvBf16>, Bf16, F16>;

// Eight neighbouring values of a row of `dim`, zeros beyond it: four words. d % 8 == 0.
template <class Type>
RF_DEVICE Words4 load_eight(const KvRow<Type>& row, int d, int dim) {
  Words4 w{};
  if constexpr (Type::kScaled) {
    if (d >= dim) return w;
    float v[8];
    row.load_four(v, d);
    row.load_four(v + 4, d + 4);
    for (int i = 0; i < 4; ++i) w.v[i] = pack_f16(v[2 * i], v[2 * i + 1]);
  } else {
    if (d + 4 <= dim) load_words<2, 8>(w.v, row.values + d);
    if (d + 8 <= dim) load_words<2, 8>(w.v + 2, row.values + d + 4);
  }
  return w;
}

template <int kWave, int kDim>
struct Shared {
  static constexpr int kRows = kThreads / kWave * kMmaSize;  // query tokens of a block
  using Queries = MmaTile<kRows, kDim>;
  using Keys = MmaTile<kKeys, kDim>;
  using TransposedValues = MmaTile<kDim, kKeys>;
  union {
    Queries queries;  // before the first tile
    struct {
      Keys keys;
      TransposedValues values;
    };
  };
  std::uint32_t scratch[kThreads / kWave][128];  // of operand_of()
  // Whether a value of a position is not finite. It was put as 0, since matrix products would spoil
  // the rows that do not see it; those that do become NaN.
  int bad[2][kKeys];
  int any_bad[2];
};

struct Rows {
  int sequence, first, count;  // tokens
};

// False if the block has none.
RF_DEVICE bool locate(Rows& rows, const AttendArgs& a, int rows_of_block) {
  int tile = block_x();
  const int num_seqs = *a.num_seqs;
  for (int s = 0; s < num_seqs; ++s) {
    const int first = a.query_start_loc[s], tokens = a.query_start_loc[s + 1] - first;
    const int tiles = (tokens + rows_of_block - 1) / rows_of_block;
    if (tile < tiles) {
      const int begin = tile * rows_of_block;
      rows = {s, first + begin, tokens - begin < rows_of_block ? tokens - begin : rows_of_block};
      return true;
    }
    tile -= tiles;
  }
  return false;
}

// A thread's keys and values of a tile, on their way.
template <class Type, int kDim>
struct TileStream {
  static constexpr int kPieces = kDim / 8;
  static constexpr int kKeyCount = kKeys * kPieces / kThreads, kPairCount = (kKeyCount + 1) / 2;
  Words4 keys[kKeyCount], values[kPairCount][2];

  RF_DEVICE static int key_of(int i) { return (thread_index() + i * kThreads) / kPieces; }
  RF_DEVICE static int key_piece() { return thread_index() % kPieces; }
  // Of values a thread takes two neighbouring positions; lanes take pairs side by side.
  RF_DEVICE static int pair() { return thread_index() % (kKeys / 2); }
  RF_DEVICE static int value_piece(int i) { return (thread_index() + i * kThreads) / (kKeys / 2); }

  template <class KeyRows, class ValueRows>
  RF_DEVICE void fetch(const KeyRows& k, const ValueRows& v, int first, int stored,
                       const AttendArgs& a) {
    RF_UNROLL
    for (int i = 0; i < kKeyCount; ++i) {
      keys[i] = {};
      if (key_of(i) < stored)
        keys[i] = load_eight<Type>(k[first + key_of(i)], key_piece() * 8, a.head_dim);
    }
    for (int p = 0; p < 2; ++p) {
      const int position = 2 * pair() + p;
      const bool is_stored = position < stored;
      const auto row = v[first + (is_stored ? position : 0)];
      RF_UNROLL
      for (int i = 0; i < kPairCount; ++i) {
        values[i][p] = {};
        if (is_stored && value_piece(i) < kPieces)
          values[i][p] = load_eight<Type>(row, value_piece(i) * 8, a.value_dim);
      }
    }
  }

  // The value itself, or 0 for one that is not finite, which is told to `bad`.
  RF_DEVICE static std::uint32_t finite_or_zero(std::uint32_t bits, bool& bad) {
    constexpr std::uint32_t kExponent = std::is_same_v<Type, KvBf16> ? 0x7f80u : 0x7c00u;
    const bool is_bad = (bits & kExponent) == kExponent;
    bad |= is_bad;
    return is_bad ? 0 : bits;
  }

  template <class S>
  RF_DEVICE void store(S& shared, int parity) const {
    RF_UNROLL
    for (int i = 0; i < kKeyCount; ++i) store16(shared.keys.at(key_of(i), key_piece()), keys[i]);
    bool bad[2] = {};
    RF_UNROLL
    for (int i = 0; i < kPairCount; ++i) {
      if (value_piece(i) >= kPieces) continue;
      RF_UNROLL
      for (int j = 0; j < 8; ++j) {
        const int shift = j % 2 * 16;
        const std::uint32_t low = values[i][0].v[j / 2] >> shift & 0xffffu;
        const std::uint32_t high = values[i][1].v[j / 2] >> shift & 0xffffu;
        shared.values.at(value_piece(i) * 8 + j, pair() / 4)[pair() % 4] =
            finite_or_zero(low, bad[0]) | finite_or_zero(high, bad[1]) << 16;
      }
    }
    for (int p = 0; p < 2; ++p) {
      if (!bad[p]) continue;
      shared.bad[parity][2 * pair() + p] = 1;
      shared.any_bad[parity] = 1;
    }
  }
};

template <int kWave, class Type, int kDim>
RF_DEVICE void attend_mma(const AttendArgs& a) {
  using S = Shared<kWave, kDim>;
  using Map = MmaMap<kWave>;
  using Element = MmaType<Type>;
  constexpr int kKeyTiles = kKeys / kMmaSize, kDimTiles = kDim / kMmaSize;
  constexpr int kCount = MmaSums<kWave>::kCount;
  // Of gfx11, whose operands take twice as many: only two of them in flight, and no tile ahead.
  constexpr bool kFewRegisters = sizeof(MmaOperand<kWave>) > 16;
  RF_SHARED(S, memory, 1);
  S& shared = memory[0];
  Rows rows;
  if (!locate(rows, a, S::kRows)) return;
  const int head = block_y(), kv_head = head / (a.heads / a.kv_heads);
  const int lane = thread_index() % kWave, wave = uniform(thread_index() / kWave);
  const int my_row = wave * kMmaSize;  // in the block

  for (int i = thread_index(); i < S::kRows * (kDim / 8); i += kThreads) {
    const int r = i / (kDim / 8), d = i % (kDim / 8) * 8;
    const float* q = a.q + (rows.first + r) * a.q_stride + std::int64_t{head} * a.head_dim;
    Words4 words{};
    for (int j = 0; j < 8; j += 2)
      if (r < rows.count && d + j < a.head_dim)
        words.v[j / 2] =
            Element::pack(q[d + j] * (a.scale * kLog2E), q[d + j + 1] * (a.scale * kLog2E));
    store16(shared.queries.at(r, d / 8), words);
  }
  for (int i = thread_index(); i < 2 * kKeys; i += kThreads) shared.bad[0][i] = 0;
  if (thread_index() < 2) shared.any_bad[thread_index()] = 0;
  barrier();
  MmaOperand<kWave> queries[kDimTiles];
  RF_UNROLL
  for (int d = 0; d < kDimTiles; ++d)
    queries[d] = shared.queries.template operand<kWave>(my_row, d);
  barrier();

  const PagedRows<Type, true> keys(a, rows.sequence, kv_head);
  const PagedRows<Type, false> values(a, rows.sequence, kv_head);
  const int most_seen = positions_seen(a, rows.sequence, rows.first + rows.count - 1);
  // What the wave's first row sees; the others one more each.
  const int first_sees = most_seen - (rows.count - 1 - my_row);
  const int wave_sees =
      first_sees + kMmaSize - 1 < most_seen ? first_sees + kMmaSize - 1 : most_seen;
  float maximum[Map::kSlots], sum[Map::kSlots];
  int seen[Map::kSlots];
  RF_UNROLL
  for (int i = 0; i < kCount; ++i) {
    const int row = Map::row(lane, i);
    seen[Map::slot(i)] = my_row + row < rows.count ? first_sees + row : 0;
    maximum[Map::slot(i)] = kNone;
    sum[Map::slot(i)] = 0.0f;
  }
  MmaSums<kWave> total[kDimTiles] = {};

  TileStream<Type, kDim> stream;
  const auto fetch = [&](int first) {
    const int stored = most_seen - first < kKeys ? most_seen - first : kKeys;
    stream.fetch(keys, values, first, stored, a);
  };
  if (most_seen > 0) fetch(0);
  int parity = 0;
  for (int first = 0; first < most_seen; first += kKeys, parity ^= 1) {
    if (kFewRegisters && first > 0) fetch(first);
    stream.store(shared, parity);
    barrier();
    const bool any_bad = shared.any_bad[parity] != 0;
    if (!kFewRegisters && first + kKeys < most_seen) fetch(first + kKeys);
    if (first < wave_sees) {
      MmaSums<kWave> scores[kKeyTiles] = {};
      RF_UNROLL
      for (int t = 0; t < kKeyTiles; ++t) RF_UNROLL
      for (int d = 0; d < kDimTiles; ++d)
        multiply_add<Element>(scores[t], queries[d],
                              shared.keys.template operand<kWave>(t * kMmaSize, d));
      float highest[Map::kSlots];
      RF_UNROLL
      for (int s = 0; s < Map::kSlots; ++s) highest[s] = maximum[s];
      RF_UNROLL
      for (int t = 0; t < kKeyTiles; ++t) {
        RF_UNROLL
        for (int i = 0; i < kCount; ++i) {
          const int s = Map::slot(i);
          float& score = scores[t].v[i];
          if (first + t * kMmaSize + Map::column(lane, i) >= seen[s]) score = kNone;
          // A NaN score is not the maximum; it becomes a NaN weight.
          highest[s] = highest[s] < score ? score : highest[s];
        }
      }
      float shrink[Map::kSlots];
      RF_UNROLL
      for (int s = 0; s < Map::kSlots; ++s) {
        highest[s] = reduce_lanes<kWave, Map::kRowLanes>(highest[s], Max{});
        shrink[s] = highest[s] == kNone ? 1.0f : exp2(maximum[s] - highest[s]);
        sum[s] *= shrink[s];
        maximum[s] = highest[s];
      }
      RF_UNROLL
      for (int t = 0; t < kKeyTiles; ++t) {
        RF_UNROLL
        for (int i = 0; i < kCount; ++i) {
          const int s = Map::slot(i), key = t * kMmaSize + Map::column(lane, i);
          const bool visible = first + key < seen[s];
          float& weight = scores[t].v[i];
          weight = visible ? exp2(weight - highest[s]) : 0.0f;
          sum[s] += weight;
          if (any_bad && visible && shared.bad[parity][key]) sum[s] = __builtin_nanf("");
        }
      }
      RF_UNROLL
      for (int d = 0; d < kDimTiles; ++d) RF_UNROLL
      for (int i = 0; i < kCount; ++i) total[d].v[i] *= shrink[Map::slot(i)];
      RF_UNROLL
      for (int t = 0; t < kKeyTiles; ++t) {
        const auto weights = operand_of<kWave, Element>(scores[t], shared.scratch[wave]);
        RF_UNROLL
        for (int d = 0; d < kDimTiles; ++d) {
          multiply_add<Element>(total[d], weights,
                                shared.values.template operand<kWave>(d * kMmaSize, t));
          if (kFewRegisters && d % 2 == 1) scheduling_fence();
        }
      }
    }
    barrier();
    if (any_bad) {  // for the tile after the next
      if (thread_index() < kKeys) shared.bad[parity][thread_index()] = 0;
      if (thread_index() == 0) shared.any_bad[parity] = 0;
    }
  }

  RF_UNROLL
  for (int s = 0; s < Map::kSlots; ++s) sum[s] = reduce_lanes<kWave, Map::kRowLanes>(sum[s], Sum{});
  RF_UNROLL
  for (int i = 0; i < kCount; ++i) {
    const int row = my_row + Map::row(lane, i);
    if (row >= rows.count) continue;
    const float all = sum[Map::slot(i)];
    float* y = a.y + ((rows.first + row) * std::int64_t{a.heads} + head) * a.value_dim;
    RF_UNROLL
    for (int d = 0; d < kDimTiles; ++d) {
      const int column = d * kMmaSize + Map::column(lane, i);
      if (column < a.value_dim) y[column] = all == 0.0f ? 0.0f : total[d].v[i] / all;
    }
  }
}

}  // namespace

#define RF_ATTEND_MMA(name, Type, dim) \
  RF_KERNEL_HUGE_VARIANT(attend_mma, name##_d##dim, AttendArgs, attend_mma, Type, dim)
RF_ATTEND_MMA(f16, KvF16, 64)
RF_ATTEND_MMA(f16, KvF16, 128)
RF_ATTEND_MMA(bf16, KvBf16, 64)
RF_ATTEND_MMA(q8_0, KvQ8, 64)
#if !defined(__GFX11__)  // whose registers do not hold them
RF_ATTEND_MMA(bf16, KvBf16, 128)
RF_ATTEND_MMA(q8_0, KvQ8, 128)
#endif
RF_EXPECT("attend_mma_*", 256, mma)

}  // namespace rocmforge::gpu

#endif
