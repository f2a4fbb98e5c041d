// Causal attention of many tokens over the paged cache, with an online softmax (Dao et al., "Flash-
// Attention", arXiv:2205.14135): a block computes kAttendRows neighbouring tokens of one sequence
// for one query head, a tile of positions at a time through shared memory. Sixteen lanes own
// a row: one or two scores a lane, then every sixteenth group of four value dimensions.
//
// Tiles begin at multiples of their size, so a row's result does not depend on which rows it shares
// a block with.
#include "include/attend_step.hpp"

namespace rocmforge::gpu {
namespace {

constexpr int kLanes = 16;  // of a row
static_assert(kAttendRows * kLanes == kThreads);
// Positions of a tile: what fits into 48 KiB of shared memory.
template <int kDim>
constexpr int kKeys = kDim <= 128 ? 32 : 16;
constexpr float kNone = -__builtin_inff();

template <int kDim>
struct Shared {
  static constexpr int kPitch = kDim + 4;     // spreads rows over the banks
  alignas(16) float q[kAttendRows * kPitch];  // times the scale
  alignas(16) float kv[kKeys<kDim> * kPitch];
  float weights[kAttendRows][kKeys<kDim>];
};

struct Rows {
  int sequence;
  int first;  // token
  int count;
};

// False if the block has none.
RF_DEVICE bool locate(Rows& rows, const AttendArgs& a) {
  int tile = block_x();
  const int num_seqs = *a.num_seqs;
  for (int s = 0; s < num_seqs; ++s) {
    const int first = a.query_start_loc[s], tokens = a.query_start_loc[s + 1] - first;
    const int tiles = (tokens + static_cast<int>(kAttendRows) - 1) / static_cast<int>(kAttendRows);
    if (tile < tiles) {
      const int begin = tile * static_cast<int>(kAttendRows);
      rows.sequence = s;
      rows.first = first + begin;
      rows.count = tokens - begin < kAttendRows ? tokens - begin : static_cast<int>(kAttendRows);
      return true;
    }
    tile -= tiles;
  }
  return false;
}

// `count` rows from `first` on as floats, kPitch apart; others are left alone.
template <int kPitch, class PagedRowsOf>
RF_DEVICE void fetch(float* to, const PagedRowsOf& rows, int first, int count, int dim) {
  for (int i = thread_index(); i < count * (dim / 4); i += kThreads) {
    const int row = i / (dim / 4), d = i % (dim / 4) * 4;
    float v[4];
    rows[first + row].load_four(v, d);
    for (int j = 0; j < 4; ++j) to[row * kPitch + d + j] = v[j];
  }
}

RF_DEVICE float dot_rows(const float* a, const float* b, int n) {
  float sum = 0.0f;
  for (int i = 0; i < n; i += 4) {
    const Words4 x = load16(a + i), y = load16(b + i);
    for (int j = 0; j < 4; ++j)
      sum = fma(quant::float_of_bits(x.v[j]), quant::float_of_bits(y.v[j]), sum);
  }
  return sum;
}

template <int kWave, class Type, int kDim>
RF_DEVICE void attend_prefill(const AttendArgs& a) {
  constexpr int kPitch = Shared<kDim>::kPitch;
  constexpr int kTile = kKeys<kDim>, kScores = kTile / kLanes;
  constexpr int kGroups = kDim / (kLanes * 4);  // of four value dimensions of a lane
  RF_SHARED(Shared<kDim>, shared, 1);
  Shared<kDim>& s = shared[0];
  Rows rows;
  if (!locate(rows, a)) return;
  const int head = block_y(), kv_head = head / (a.heads / a.kv_heads);
  const int row = thread_index() / kLanes, lane = thread_index() % kLanes;

  for (int i = thread_index(); i < rows.count * a.head_dim; i += kThreads) {
    const int r = i / a.head_dim, d = i % a.head_dim;
    const std::int64_t at = (rows.first + r) * a.q_stride + std::int64_t{head} * a.head_dim + d;
    s.q[r * kPitch + d] = a.q[at] * a.scale;
  }
  const PagedRows<Type, true> keys(a, rows.sequence, kv_head);
  const PagedRows<Type, false> values(a, rows.sequence, kv_head);
  const int most_seen = positions_seen(a, rows.sequence, rows.first + rows.count - 1);
  const int seen = row < rows.count ? most_seen - (rows.count - 1 - row) : 0;

  float maximum = kNone, sum = 0.0f;
  float total[kGroups][4] = {};
  for (int first = 0; first < most_seen; first += kTile) {
    const int stored = most_seen - first < kTile ? most_seen - first : kTile;
    const int mine = seen - first < stored ? seen - first : stored;  // <= 0: none
    fetch<kPitch>(s.kv, keys, first, stored, a.head_dim);
    barrier();
    float scores[kScores], highest = maximum;
    for (int i = 0; i < kScores; ++i) {
      const int p = lane + i * kLanes;
      scores[i] = p < mine ? dot_rows(s.q + row * kPitch, s.kv + p * kPitch, a.head_dim) : kNone;
      // A NaN score is not the maximum; it becomes a NaN weight.
      highest = highest < scores[i] ? scores[i] : highest;
    }
    highest = reduce_lanes<kWave, kLanes>(highest, Max{});
    float added = 0.0f;
    for (int i = 0; i < kScores; ++i) {
      const int p = lane + i * kLanes;
      const float weight = p < mine ? exp(scores[i] - highest) : 0.0f;
      s.weights[row][p] = weight;
      added += weight;
    }
    added = reduce_lanes<kWave, kLanes>(added, Sum{});
    barrier();  // all have read the keys
    fetch<kPitch>(s.kv, values, first, stored, a.value_dim);
    barrier();
    if (mine > 0) {
      const float shrink = exp(maximum - highest);
      maximum = highest;
      sum = fma(sum, shrink, added);
      for (int g = 0; g < kGroups; ++g) {
        const int d = (g * kLanes + lane) * 4;
        if (d >= a.value_dim) continue;
        for (int j = 0; j < 4; ++j) total[g][j] *= shrink;
        // Not beyond what the row sees: a weight of 0 does not shield it from an infinite value.
        for (int p = 0; p < mine; ++p) {
          const Words4 v = load16(s.kv + p * kPitch + d);
          const float weight = s.weights[row][p];
          for (int j = 0; j < 4; ++j)
            total[g][j] = fma(weight, quant::float_of_bits(v.v[j]), total[g][j]);
        }
      }
    }
    barrier();  // all have read the values
  }
  if (row >= rows.count) return;
  float* y = a.y + ((rows.first + row) * std::int64_t{a.heads} + head) * a.value_dim;
  for (int g = 0; g < kGroups; ++g) {
    const int d = (g * kLanes + lane) * 4;
    if (d >= a.value_dim) continue;
    for (int j = 0; j < 4; ++j) y[d + j] = sum == 0.0f ? 0.0f : total[g][j] / sum;
  }
}

}  // namespace

#define RF_ATTEND_PREFILL(name, Type)                                                   \
  RF_KERNEL_VARIANT(attend_prefill, name##_d64, AttendArgs, attend_prefill, Type, 64)   \
  RF_KERNEL_VARIANT(attend_prefill, name##_d128, AttendArgs, attend_prefill, Type, 128) \
  RF_KERNEL_VARIANT(attend_prefill, name##_d256, AttendArgs, attend_prefill, Type, 256)
RF_ATTEND_PREFILL(f32, KvF32)
RF_ATTEND_PREFILL(f16, KvF16)
RF_ATTEND_PREFILL(bf16, KvBf16)
RF_ATTEND_PREFILL(q8_0, KvQ8)
RF_EXPECT("attend_prefill_*", 128)

}  // namespace rocmforge::gpu
