// Attention of single tokens over the paged cache, split over the positions ("flash decoding"): a
// block computes kHeads query heads of one KV head, which share every key and value it reads, over
// one of `splits` ranges of positions, with an online softmax (Milakov & Gimelshein,
// arXiv:1805.02867). Memory bound: the cache of the sequence is read once a KV head.
//
// A tile of positions at a time: sixteen lanes share a key and add up its products with every
// query; a wave turns a head's scores into weights; then a thread owns four value dimensions of
// every kThreads / (value_dim / 4)-th position.
#include "include/attend_step.hpp"

namespace rocmforge::gpu {
namespace {

constexpr int kTile = 64;
constexpr int kKeyLanes = 16;
constexpr int kMaxDim = 256;
constexpr float kNone = -__builtin_inff();

template <int kHeads>
struct Shared {
  float q[kHeads][kMaxDim];      // times the scale
  float weights[kHeads][kTile];  // first the scores
  float shrink[kHeads];          // of what was summed before this tile
  float maximum[kHeads], sum[kHeads];
  float values[kThreads * 4];  // of one head: [part][value_dim]
};

template <int kWave, int kHeads, class Keys>
RF_DEVICE void score_tile(Shared<kHeads>& s, const AttendArgs& a, const Keys& keys, int begin,
                          int count) {
  const int lane = thread_index() % kKeyLanes;
  for (int p = thread_index() / kKeyLanes; p < kTile; p += kThreads / kKeyLanes) {
    // All lanes of a wave take part in the sums: beyond the last key they repeat it.
    const auto key = keys[begin + (p < count ? p : count - 1)];
    float sums[kHeads] = {};
    for (int i = lane * 4; i < a.head_dim; i += kKeyLanes * 4) {
      float k[4];
      key.load_four(k, i);
      for (int h = 0; h < kHeads; ++h)
        for (int j = 0; j < 4; ++j) sums[h] = fma(s.q[h][i + j], k[j], sums[h]);
    }
    for (int h = 0; h < kHeads; ++h) {
      const float score = reduce_lanes<kWave, kKeyLanes>(sums[h], Sum{});
      if (lane == 0) s.weights[h][p] = p < count ? score : kNone;
    }
  }
}

// Scores to weights against the maximum so far. A NaN score is not the maximum; it becomes a NaN
// weight.
template <int kWave, int kHeads>
RF_DEVICE void soften_tile(Shared<kHeads>& s) {
  const int lane = thread_index() % kWave;
  for (int h = thread_index() / kWave; h < kHeads; h += kThreads / kWave) {
    const float before = s.maximum[h];
    float highest = before;
    for (int p = lane; p < kTile; p += kWave)
      highest = highest < s.weights[h][p] ? s.weights[h][p] : highest;
    highest = wave_max<kWave>(highest);
    float sum = 0.0f;
    for (int p = lane; p < kTile; p += kWave) {
      const float weight = exp(s.weights[h][p] - highest);
      s.weights[h][p] = weight;
      sum += weight;
    }
    sum = wave_sum<kWave>(sum);
    wave_barrier<kWave>();  // all have read the maximum
    if (lane == 0) {
      const float shrink = exp(before - highest);
      s.shrink[h] = shrink;
      s.maximum[h] = highest;
      s.sum[h] = fma(s.sum[h], shrink, sum);
    }
  }
}

template <int kWave, class Type, int kHeads>
RF_DEVICE void attend_decode(const AttendArgs& a) {
  RF_SHARED(Shared<kHeads>, shared, 1);
  Shared<kHeads>& s = shared[0];
  const int t = block_x();
  if (t >= a.query_start_loc[*a.num_seqs]) return;
  const int group = a.heads / a.kv_heads, chunks = (group + kHeads - 1) / kHeads;
  const int kv_head = block_y() / chunks, in_group = block_y() % chunks * kHeads;
  const int first_head = kv_head * group + in_group;
  const int heads = group - in_group < kHeads ? group - in_group : kHeads;
  const int sequence = sequence_of(a, t);
  const int seen = positions_seen(a, sequence, t);
  const int tiles = (seen + kTile - 1) / kTile, share = (tiles + a.splits - 1) / a.splits;
  const int begin = block_z() * share * kTile;
  const int end = seen < begin + share * kTile ? seen : begin + share * kTile;

  for (int i = thread_index(); i < kHeads * a.head_dim; i += kThreads) {
    const int h = i / a.head_dim, d = i % a.head_dim;
    const std::int64_t at = t * a.q_stride + std::int64_t{first_head + h} * a.head_dim + d;
    s.q[h][d] = h < heads ? a.q[at] * a.scale : 0.0f;
  }
  if (thread_index() < kHeads) {
    s.maximum[thread_index()] = kNone;
    s.sum[thread_index()] = 0.0f;
  }
  barrier();

  const PagedRows<Type, true> keys(a, sequence, kv_head);
  const PagedRows<Type, false> values(a, sequence, kv_head);
  const int across = a.value_dim / 4, parts = kThreads / across;
  const int part = thread_index() / across, dim = thread_index() % across * 4;
  float sums[kHeads][4] = {};
  for (int tile = begin; tile < end; tile += kTile) {
    const int count = end - tile < kTile ? end - tile : kTile;
    score_tile<kWave, kHeads>(s, a, keys, tile, count);
    barrier();
    soften_tile<kWave>(s);
    barrier();
    for (int h = 0; h < kHeads; ++h)
      for (int j = 0; j < 4; ++j) sums[h][j] *= s.shrink[h];
    if (part < parts) {
      for (int p = part; p < count; p += parts) {
        float v[4];
        values[tile + p].load_four(v, dim);
        for (int h = 0; h < kHeads; ++h)
          for (int j = 0; j < 4; ++j) sums[h][j] = fma(s.weights[h][p], v[j], sums[h][j]);
      }
    }
    barrier();
  }

  for (int h = 0; h < kHeads; ++h) {
    if (part < parts)
      for (int j = 0; j < 4; ++j) s.values[part * a.value_dim + dim + j] = sums[h][j];
    barrier();
    const std::int64_t row = t * std::int64_t{a.heads} + first_head + h;
    if (h < heads) {
      for (int d = thread_index(); d < a.value_dim; d += kThreads) {
        float total = 0.0f;
        for (int i = 0; i < parts; ++i) total += s.values[i * a.value_dim + d];
        if (a.splits == 1)
          a.y[row * a.value_dim + d] = s.sum[h] == 0.0f ? 0.0f : total / s.sum[h];
        else
          a.partial[(row * a.splits + block_z()) * a.value_dim + d] = total;
      }
      if (thread_index() == 0 && a.splits > 1) {
        a.partial_ml[(row * a.splits + block_z()) * 2] = s.maximum[h];
        a.partial_ml[(row * a.splits + block_z()) * 2 + 1] = s.sum[h];
      }
    }
    barrier();
  }
}

}  // namespace

#define RF_ATTEND_DECODE(name, Type)                                              \
  RF_KERNEL_VARIANT(attend_decode, name##_g1, AttendArgs, attend_decode, Type, 1) \
  RF_KERNEL_VARIANT(attend_decode, name##_g2, AttendArgs, attend_decode, Type, 2) \
  RF_KERNEL_VARIANT(attend_decode, name##_g4, AttendArgs, attend_decode, Type, 4) \
  RF_KERNEL_VARIANT(attend_decode, name##_g8, AttendArgs, attend_decode, Type, 8)
RF_ATTEND_DECODE(f32, KvF32)
RF_ATTEND_DECODE(f16, KvF16)
RF_ATTEND_DECODE(bf16, KvBf16)
RF_ATTEND_DECODE(q8_0, KvQ8)
RF_EXPECT("attend_decode_*", 128)

}  // namespace rocmforge::gpu
