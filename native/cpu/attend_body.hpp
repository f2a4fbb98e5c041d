// Attention of a few query rows over paged keys and values with an online softmax
// (Milakov & Gimelshein, arXiv:1805.02867), written over the Vec of the including ISA unit.
//
// A score is one chain of FMAs over the head dimension, a value element one chain over the
// positions; rows and vectors are blocked in registers around these chains and never change them.
// So a row gets the same bits whether it is computed alone (decode) or with others (prefill).
// Few rows read the cache directly, prefetching one half of a tile ahead, as the pages of a
// sequence lie where no hardware prefetcher finds them. For many rows a tile is first converted to
// floats in the L1 cache.
//
// No std:: templates here or in elementwise_body.hpp: what is not inlined becomes a weak symbol
// with this unit's instructions in it (core/hd.hpp).
#pragma once

#include <math.h>

#include <cstddef>
#include <cstdint>

#include "cpu/attend_types.hpp"
#include "cpu/kernels.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kTileGroups = kAttendTile / kKvLanes;
// Rows that share one reading of the cache: more than kBlockRows with half of the vectors.
constexpr std::int64_t kCachedRows = 8;
// From three readings on, converting a tile once is cheaper.
constexpr std::int64_t kDirectRows = 2 * kCachedRows;
template <int R>
constexpr int kVectors = R > Vec::kBlockRows ? Vec::kBlockVectors / 2 : Vec::kBlockVectors;

struct Tile {
  std::int64_t position;  // of its first key
  std::int64_t key_row_bytes, value_row_bytes;
  const std::byte* keys[kTileGroups];
  const std::byte* values[kTileGroups];
  const std::byte* next_keys[kTileGroups];
  const std::byte* next_values[kTileGroups];
};

// A group beyond `last` (a position) is replaced by the first: its scores are not used.
inline void locate(const std::byte** groups, const AttendArgs& a, const void* base,
                   std::int64_t position, std::int64_t last, std::int64_t row_bytes) {
  for (std::int64_t g = 0; g < kTileGroups; ++g) {
    const std::int64_t p = position + g * kKvLanes;
    groups[g] = p < last ? paged(a, base, p, row_bytes) : groups[0];
  }
}

// `lines` cache lines into the L2 cache: more of them can be on their way there than to L1. An
// address, not a pointer: it may run past the memory, where a prefetch does nothing.
inline void prefetch(std::uintptr_t& address, std::int64_t lines) {
  for (; lines > 0; --lines, address += 64)
    __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 2);
}

// Memory is read as two streams, keys and values, that run half a tile to a tile ahead: in step
// with each of the 8 quarters of the work on a tile (4 of its keys, 4 of its values), half a group
// of each is fetched. One stream at a time reaches 83 % of the read bandwidth, two 94 %.
struct Ahead {
  std::uintptr_t values, keys;
  std::int64_t value_lines, key_lines;  // a step

  Ahead(const std::byte* value_group, const std::byte* key_group, const Tile& tile,
        std::int64_t half, std::int64_t steps) {
    const std::int64_t value_bytes = kKvLanes / 2 * tile.value_row_bytes;
    const std::int64_t key_bytes = kKvLanes / 2 * tile.key_row_bytes;
    values = reinterpret_cast<std::uintptr_t>(value_group) +
             static_cast<std::uintptr_t>(half * value_bytes);
    keys =
        reinterpret_cast<std::uintptr_t>(key_group) + static_cast<std::uintptr_t>(half * key_bytes);
    value_lines = (value_bytes + 64 * steps - 1) / (64 * steps);
    key_lines = (key_bytes + 64 * steps - 1) / (64 * steps);
  }
  void step() {
    prefetch(values, value_lines);
    prefetch(keys, key_lines);
  }
};

// scores[r][p] = q[r] . key(position + p) for R rows and W vectors of positions.
template <class Type, int R, int W>
inline void multiply_keys(float* scores, const float* q, const Tile& tile, std::int64_t position,
                          std::int64_t head_dim) {
  typename Type::template Keys<W> keys(tile.keys, position);
  Vec sums[R][W];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int w = 0; w < W; ++w) sums[r][w] = Vec::zero();
  constexpr std::int64_t kParts = W * Vec::kWidth < kKvLanes ? 1 : W * Vec::kWidth / kKvLanes;
  for (std::int64_t i = 0; i < kParts; ++i) {
    const std::int64_t part = position / kKvLanes + i;
    const std::int64_t begin = head_dim * i / kParts, end = head_dim * (i + 1) / kParts;
    Ahead ahead(tile.values[2 + part / 2], tile.next_keys[part / 2], tile, part % 2, end - begin);
    for (std::int64_t d = begin; d < end; ++d) {
      if constexpr (Type::kCached && Vec::kWidth > 1) ahead.step();
      if (d % 32 == 0) keys.enter(d);
      Vec k[W];
#pragma GCC unroll 8
      for (int w = 0; w < W; ++w) k[w] = keys.at(d, w);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Vec f = Vec::set(q[r * head_dim + d]);
#pragma GCC unroll 8
        for (int w = 0; w < W; ++w) sums[r][w] = Vec::fma(f, k[w], sums[r][w]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int w = 0; w < W; ++w)
      sums[r][w].store(scores + r * kAttendTile + position + w * Vec::kWidth);
}

// y[r][c] += sum over positions [begin, end) of the tile of weight * value, for R rows and W
// vectors of columns.
template <class Type, int R, int W>
inline void add_values(float* y, std::int64_t stride, const float* weights, const Tile& tile,
                       std::int64_t column, std::int64_t begin, std::int64_t end) {
  Vec sums[R][W];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int w = 0; w < W; ++w) sums[r][w] = Vec::load(y + r * stride + column + w * Vec::kWidth);
  while (begin < end) {
    const std::int64_t group = begin / kKvLanes, first = begin % kKvLanes;
    const std::int64_t last = end - group * kKvLanes < kKvLanes ? end - group * kKvLanes : kKvLanes;
    const std::byte* row = tile.values[group] + first * tile.value_row_bytes;
    Ahead ahead(tile.next_values[group / 2], tile.next_keys[2 + group / 2], tile, group % 2,
                kKvLanes);
    for (std::int64_t j = first; j < last; ++j, ++begin) {
      if constexpr (Type::kCached && Vec::kWidth > 1)
        if (column == 0) ahead.step();
      Vec v[W];
#pragma GCC unroll 8
      for (int w = 0; w < W; ++w) v[w] = Type::value(row, column + w * Vec::kWidth);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Vec f = Vec::set(weights[r * kAttendTile + begin]);
#pragma GCC unroll 8
        for (int w = 0; w < W; ++w) sums[r][w] = Vec::fma(f, v[w], sums[r][w]);
      }
      row += tile.value_row_bytes;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int w = 0; w < W; ++w) sums[r][w].store(y + r * stride + column + w * Vec::kWidth);
}

template <class Type, int R>
inline void add_all_values(float* y, const float* weights, const Tile& tile, std::int64_t value_dim,
                           std::int64_t begin, std::int64_t end) {
  constexpr int kMost = kVectors<R>;
  const std::int64_t stride = attend_stride(value_dim);
  std::int64_t column = 0;
  for (; column + kMost * Vec::kWidth <= stride; column += kMost * Vec::kWidth)
    add_values<Type, R, kMost>(y, stride, weights, tile, column, begin, end);
  for (; column < stride; column += Vec::kWidth)
    add_values<Type, R, 1>(y, stride, weights, tile, column, begin, end);
}

inline void scale_by(float* y, float factor, std::int64_t n) {
  const Vec f = Vec::set(factor);
  for (std::int64_t i = 0; i < n; i += Vec::kWidth) Vec::mul(f, Vec::load(y + i)).store(y + i);
}

// scores[0..n) = cap * tanh(score / cap), with tanh(z) = 1 - 2 / (1 + exp(2 z)); n is a whole
// number of vectors, and what lies beyond the row's scores is replaced by soften().
inline void cap_scores(float* scores, float cap, std::int64_t n) {
  const Vec twice = Vec::set(2.0f / cap), one = Vec::set(1.0f), c = Vec::set(cap);
  for (std::int64_t i = 0; i < n; i += Vec::kWidth) {
    const Vec e = Vec::exp(Vec::mul(Vec::load(scores + i), twice));
    const Vec tanh = Vec::fma(Vec::set(-2.0f), Vec::div(one, Vec::add(one, e)), one);
    Vec::mul(c, tanh).store(scores + i);
  }
}

// scores[i] -= slope * |distance - i|, each rounded as one multiplication and one subtraction.
inline void lower_by_distance(float* scores, float slope, std::int64_t distance, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t d = distance < i ? i - distance : distance - i;
    scores[i] -= slope * static_cast<float>(d);
  }
}

// Turns the scores [begin, n) of one row against the positions from `tile` on into weights against
// the row's maximum so far; those before `begin` become 0.
inline void soften(const AttendArgs& a, std::int64_t row, std::int64_t tile, float* lanes,
                   float* scores, std::int64_t begin, std::int64_t n) {
  const std::int64_t padded = (n + Vec::kWidth - 1) / Vec::kWidth * Vec::kWidth;
  if (a.cap != 0.0f) cap_scores(scores, a.cap, padded);
  if (a.slope) lower_by_distance(scores, a.slope[row], a.position[row] - tile, padded);
  for (std::int64_t i = 0; i < begin; ++i) scores[i] = -INFINITY;
  for (std::int64_t i = n; i < padded; ++i) scores[i] = -INFINITY;
  Vec high = Vec::set(a.maximum[row]);
  // A NaN score is not the maximum; it becomes a NaN weight.
  for (std::int64_t i = 0; i < padded; i += Vec::kWidth)
    high = Vec::max(Vec::load(scores + i), high);
  const float highest = high.highest();
  Vec sum = Vec::load(lanes);
  if (highest != a.maximum[row]) {
    const float shrink = expf(a.maximum[row] - highest);
    a.maximum[row] = highest;
    sum = Vec::mul(sum, Vec::set(shrink));
    const std::int64_t stride = attend_stride(a.value_dim);
    scale_by(a.values + row * stride, shrink, stride);
  }
  const Vec minus = Vec::set(-highest);
  for (std::int64_t i = 0; i < padded; i += Vec::kWidth) {
    const Vec weight = Vec::exp(Vec::add(Vec::load(scores + i), minus));
    weight.store(scores + i);
    sum = Vec::add(sum, weight);
  }
  sum.store(lanes);
}

template <class Type, int R>
void attend_block(const AttendArgs& a, const Tile& tile, std::int64_t row, float* lanes,
                  float* scores) {
  // Of the tile, a row sees [first, seen): some positions or none, [0, 0).
  std::int64_t first[R], seen[R], most = 0, least = kAttendTile, latest = 0;
  for (int r = 0; r < R; ++r) {
    const std::int64_t end = a.seen[row + r] < a.end ? a.seen[row + r] : a.end;
    std::int64_t n = end - tile.position;
    n = n < 0 ? 0 : n > kAttendTile ? kAttendTile : n;
    std::int64_t from = a.first ? a.first[row + r] - tile.position : 0;
    from = from < 0 ? 0 : from;
    if (from >= n) from = n = 0;
    first[r] = from;
    seen[r] = n;
    most = n > most ? n : most;
    least = n < least ? n : least;
    latest = from > latest ? from : latest;
  }
  constexpr std::int64_t kStep = kVectors<R> * Vec::kWidth;
  for (std::int64_t p = 0; p < most; p += kStep)
    multiply_keys<Type, R, kVectors<R>>(scores, a.q + row * a.head_dim, tile, p, a.head_dim);
  for (int r = 0; r < R; ++r)
    if (seen[r] > 0)
      soften(a, row + r, tile.position, lanes + (row + r) * kKvLanes, scores + r * kAttendTile,
             first[r], seen[r]);
  const std::int64_t stride = attend_stride(a.value_dim);
  float* values = a.values + row * stride;
  // Rows of later tokens see a few positions more, and with a window a few less at its beginning: a
  // weight of 0 would not shield the others from an infinite value there. What all of them see is
  // added in between, so that a row's values come in the order of their positions.
  const auto add_alone = [&](int r, std::int64_t begin, std::int64_t end) {
    if (begin < end)
      add_all_values<Type, 1>(values + r * stride, scores + r * kAttendTile, tile, a.value_dim,
                              begin, end);
  };
  if (latest < least) {
    for (int r = 0; r < R; ++r) add_alone(r, first[r], latest);
    add_all_values<Type, R>(values, scores, tile, a.value_dim, latest, least);
    for (int r = 0; r < R; ++r) add_alone(r, least, seen[r]);
  } else {
    for (int r = 0; r < R; ++r) add_alone(r, first[r], seen[r]);
  }
}

template <class Type>
inline void attend_tile(const AttendArgs& a, const Tile& tile, float* lanes, float* scores) {
  static_assert(Vec::kBlockRows == 6 && kCachedRows == 8);
  constexpr std::int64_t kMost = Type::kCached ? kCachedRows : Vec::kBlockRows;
  std::int64_t blocks = (a.rows + kMost - 1) / kMost;
  for (std::int64_t row = 0; row < a.rows; --blocks) {
    const std::int64_t rows = (a.rows - row + blocks - 1) / blocks;
    switch (rows) {
      case 1:
        attend_block<Type, 1>(a, tile, row, lanes, scores);
        break;
      case 2:
        attend_block<Type, 2>(a, tile, row, lanes, scores);
        break;
      case 3:
        attend_block<Type, 3>(a, tile, row, lanes, scores);
        break;
      case 4:
        attend_block<Type, 4>(a, tile, row, lanes, scores);
        break;
      case 5:
        attend_block<Type, 5>(a, tile, row, lanes, scores);
        break;
      case 6:
        attend_block<Type, 6>(a, tile, row, lanes, scores);
        break;
      default:
        if constexpr (Type::kCached) {
          if (rows == 7)
            attend_block<Type, 7>(a, tile, row, lanes, scores);
          else
            attend_block<Type, 8>(a, tile, row, lanes, scores);
        }
    }
    row += rows;
  }
}

template <class Type>
inline void convert_row(float* y, const std::byte* row, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) Type::value(row, i).store(y + i);
  if constexpr (requires { Type::one(row, i); })  // else n is a whole number of blocks
    for (; i < n; ++i) y[i] = Type::one(row, i);
}

// Fills keys (kTileGroups interleaved groups) and values ([kAttendTile, attend_stride]) with the
// tile's positions below a.end.
template <class Type>
inline void convert_tile(float* keys, float* values, float* row, const AttendArgs& a,
                         const Tile& tile) {
  const std::int64_t n = a.end - tile.position < kAttendTile ? a.end - tile.position : kAttendTile;
  const std::int64_t stride = attend_stride(a.value_dim);
  if (keys_are_interleaved(a.block_size)) {
    for (std::int64_t p = 0; p < n; p += Vec::kWidth) {
      typename Type::template Keys<1> from(tile.keys, p);
      float* to = keys + p / kKvLanes * kKvLanes * a.head_dim + p % kKvLanes;
      for (std::int64_t d = 0; d < a.head_dim; ++d) {
        if (d % 32 == 0) from.enter(d);
        from.at(d, 0).store(to + d * kKvLanes);
      }
    }
  } else {
    for (std::int64_t p = 0; p < n; ++p) {
      convert_row<Type>(row, paged(a, a.k_base, tile.position + p, tile.key_row_bytes), a.head_dim);
      float* to = keys + p / kKvLanes * kKvLanes * a.head_dim + p % kKvLanes;
      for (std::int64_t d = 0; d < a.head_dim; ++d) to[d * kKvLanes] = row[d];
    }
  }
  for (std::int64_t p = 0; p < n; ++p) {
    float* to = values + p * stride;
    convert_row<Type>(to, paged(a, a.v_base, tile.position + p, tile.value_row_bytes), a.value_dim);
    for (std::int64_t i = a.value_dim; i < stride; ++i) to[i] = 0.0f;
  }
}

template <class Type>
void attend_body(const AttendArgs& a) {
  const std::int64_t stride = attend_stride(a.value_dim);
  float* lanes = static_cast<float*>(a.scratch);      // [kAttendMaxRows, kKvLanes]
  float* scores = lanes + kAttendMaxRows * kKvLanes;  // [8, kAttendTile]
  float* keys = scores + 8 * kAttendTile;             // [kTileGroups, head_dim, kKvLanes]
  float* values = keys + kAttendTile * a.head_dim;    // [kAttendTile, stride]
  float* row = values + kAttendTile * stride;         // [head_dim]
  for (std::int64_t i = 0; i < a.rows * kKvLanes; ++i) lanes[i] = 0.0f;
  for (std::int64_t i = 0; i < a.rows * stride; ++i) a.values[i] = 0.0f;
  for (std::int64_t r = 0; r < a.rows; ++r) a.maximum[r] = -INFINITY;

  const bool grouped = keys_are_interleaved(a.block_size);
  const bool direct = grouped && a.value_dim % kKvLanes == 0 && a.rows <= kDirectRows;
  Tile tile{};
  tile.key_row_bytes = kv_row_bytes(Type::kType, a.head_dim);
  tile.value_row_bytes = kv_row_bytes(Type::kType, a.value_dim);
  Tile converted{};
  converted.value_row_bytes = stride * static_cast<std::int64_t>(sizeof(float));
  for (std::int64_t g = 0; g < kTileGroups; ++g) {
    converted.keys[g] = reinterpret_cast<const std::byte*>(keys + g * kKvLanes * a.head_dim);
    converted.values[g] = reinterpret_cast<const std::byte*>(values + g * kKvLanes * stride);
  }

  const auto locate_next = [&](std::int64_t position, std::int64_t last) {
    locate(tile.next_keys, a, a.k_base, position, last, tile.key_row_bytes);
    locate(tile.next_values, a, a.v_base, position, last, tile.value_row_bytes);
  };
  if (grouped) locate_next(a.begin, a.end);
  for (std::int64_t position = a.begin; position < a.end; position += kAttendTile) {
    tile.position = converted.position = position;
    if (grouped) {
      for (std::int64_t g = 0; g < kTileGroups; ++g) {
        tile.keys[g] = tile.next_keys[g];
        tile.values[g] = tile.next_values[g];
      }
      locate_next(position + kAttendTile, a.stored);
    }
    if (direct) {
      attend_tile<Type>(a, tile, lanes, scores);
    } else {
      convert_tile<Type>(keys, values, row, a, tile);
      attend_tile<Converted>(a, converted, lanes, scores);
    }
  }
  for (std::int64_t r = 0; r < a.rows; ++r) {
    Vec sum = Vec::load(lanes + r * kKvLanes);
    a.sum[r] = sum.sum();
  }
}

}  // namespace
}  // namespace rocmforge::cpu
