// Attention of single tokens with all that surrounds it in one launch: norms of heads, rotation,
// the token's own key and value into the paged cache, online softmax (Milakov & Gimelshein,
// arXiv:1805.02867) over `splits` ranges of positions side by side, their combination by the block
// that arrives last, and its result quantized (step_args.hpp).
//
// D / 8 lanes have a position, eight dimensions each, so that a key's score is where its value is
// wanted: nothing passes through shared memory until the positions of a block are done. Every key
// and value is read once for kHeads query heads. Loads of kAhead positions are under way at once.
#include "include/arrival.hpp"
#include "include/quantize_values.hpp"
#include "include/row_piece.hpp"
#include "include/step_head.hpp"

namespace rocmforge::gpu {
namespace {

constexpr float kNone = -__builtin_inff();

// What some positions gave for kHeads heads: of a lane's eight dimensions, or of all.
template <int kHeads>
struct Attended {
  float highest[kHeads], sum[kHeads], values[kHeads][8];
};

// exp(x - highest), where both may be -infinity.
RF_DEVICE float weight_of(float x, float highest) {
  return x == kNone ? 0.0f : fast_exp(x - highest);
}

RF_DEVICE float higher(float a, float b) { return a < b ? b : a; }

// Adds what lane ^ kMask has.
template <int kWave, int kMask, int kHeads>
RF_DEVICE void merge_lanes(Attended<kHeads>& s) {
  RF_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    const float other = shuffle_xor<kWave, kMask>(s.highest[h]);
    const float highest = higher(s.highest[h], other);
    const float mine = weight_of(s.highest[h], highest), its = weight_of(other, highest);
    s.highest[h] = highest;
    s.sum[h] = s.sum[h] * mine + shuffle_xor<kWave, kMask>(s.sum[h]) * its;
    RF_UNROLL
    for (int j = 0; j < 8; ++j)
      s.values[h][j] = s.values[h][j] * mine + shuffle_xor<kWave, kMask>(s.values[h][j]) * its;
  }
}

template <int kWave, class Type, int kDim, int kHeads>
RF_DEVICE void step_attend(const StepAttendArgs& a) {
  constexpr int kAhead = kWave == 64 ? 1 : sizeof(typename Type::Element) > 2 ? 2 : 4;
  constexpr int kLanes = kDim / 8, kGroups = kThreads / kLanes, kWaves = kThreads / kWave;
  RF_SHARED(float, values, kWaves* kHeads* kDim);
  RF_SHARED(float, maxima, kWaves* kHeads);
  RF_SHARED(float, sums, kWaves* kHeads);
  RF_SHARED(float, shares, kHeads* kMaxStepSplits);
  const int t = block_x();
  const int in_kv = a.heads / a.kv_heads, chunks = (in_kv + kHeads - 1) / kHeads;
  const int kv_head = block_y() / chunks, chunk = block_y() % chunks;
  const int first_head = kv_head * in_kv + chunk * kHeads;
  const int heads = in_kv - chunk * kHeads < kHeads ? in_kv - chunk * kHeads : kHeads;
  const int group = thread_index() / kLanes, dim = thread_index() % kLanes * 8;
  const std::int32_t* table = a.block_tables + t * a.max_blocks;
  const int seen = a.seq_lens[t], slot = a.slot_mapping[t];
  const int newest = slot < 0 ? -1 : seen - 1;
  const int tiles = (seen + kGroups - 1) / kGroups, share = (tiles + a.splits - 1) / a.splits;
  const int begin = block_z() * share * kGroups;
  const int past = seen < begin + share * kGroups ? seen : begin + share * kGroups;

  const auto block_of_position = [&](int position) {
    return static_cast<const char*>(a.cache) + table[position / a.block_size] * a.layout.bytes;
  };
  const float* row = a.qkv + std::int64_t{t} * (a.heads + 2 * a.kv_heads) * kDim;
  const StepAngles<kDim> angles(a, t);
  float q[kHeads][8];
  RF_UNROLL
  for (int h = 0; h < kHeads; ++h)
    load_eight(q[h], row + (first_head + (h < heads ? h : 0)) * kDim + dim);
  RF_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    norm_head<kWave, kDim>(q[h], a.q_norm, a.eps);
    angles.template rotate<kWave>(q[h]);
    RF_UNROLL
    for (int j = 0; j < 8; ++j) q[h][j] *= a.scale;
  }
  // The first lanes start with the token's own position, the others with none.
  Attended<kHeads> s;
  RF_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    s.highest[h] = kNone;
    s.sum[h] = 0.0f;
    RF_UNROLL
    for (int j = 0; j < 8; ++j) s.values[h][j] = 0.0f;
  }
  int end = past;
  if (begin <= newest && newest < past) {  // one block of a KV head, or one of each chunk
    end = newest;
    float new_key[8], new_value[8];
    load_eight(new_key, row + (a.heads + kv_head) * kDim + dim);
    load_eight(new_value, row + (a.heads + a.kv_heads + kv_head) * kDim + dim);
    norm_head<kWave, kDim>(new_key, a.k_norm, a.eps);
    angles.template rotate<kWave>(new_key);
    const CachedEight<kWave, Type> key(new_key), value(new_value);
    if (chunk == 0 && group == 0) {
      const char* block = static_cast<const char*>(a.cache) + slot / a.block_size * a.layout.bytes;
      const int offset = slot % a.block_size;
      key.store(kv_keys<Type>(block, a.layout, kv_head, a.block_size, kDim).row(offset), dim);
      value.store(kv_values<Type>(block, a.layout, kv_head, a.block_size, kDim).row(offset), dim);
    }
    RF_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      float dot = 0.0f;
      RF_UNROLL
      for (int j = 0; j < 8; ++j) dot = fma(q[h][j], new_key[j], dot);
      const float score = reduce_lanes<kWave, kLanes>(dot, Sum{});
      if (group != 0) continue;
      s.highest[h] = score;
      s.sum[h] = weight_of(score, score);
      RF_UNROLL
      for (int j = 0; j < 8; ++j) s.values[h][j] = s.sum[h] * new_value[j];
    }
  }
  for (int tile = begin; tile < end; tile += kAhead * kGroups) {
    KvEight<Type> k[kAhead], v[kAhead];
    RF_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const int p = tile + i * kGroups + group;
      const char* block = block_of_position(p < end ? p : end - 1);
      const int offset = (p < end ? p : end - 1) % a.block_size;
      k[i].load(kv_keys<Type>(block, a.layout, kv_head, a.block_size, kDim).row(offset), dim);
      v[i].load(kv_values<Type>(block, a.layout, kv_head, a.block_size, kDim).row(offset), dim);
    }
    float scores[kHeads][kAhead];
    RF_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const int p = tile + i * kGroups + group;
      float dots[kHeads] = {};
      RF_UNROLL
      for (int j = 0; j < 8; ++j) {
        const float key = k[i].value(j);
        RF_UNROLL
        for (int h = 0; h < kHeads; ++h) dots[h] = fma(q[h][j], key, dots[h]);
      }
      RF_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        const float score = reduce_lanes<kWave, kLanes>(dots[h], Sum{});
        scores[h][i] = p < end ? score : kNone;
      }
    }
    RF_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      float highest = s.highest[h];
      RF_UNROLL
      for (int i = 0; i < kAhead; ++i) highest = higher(highest, scores[h][i]);
      const float shrink = weight_of(s.highest[h], highest);
      s.highest[h] = highest;
      s.sum[h] *= shrink;
      RF_UNROLL
      for (int j = 0; j < 8; ++j) s.values[h][j] *= shrink;
      RF_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        scores[h][i] = weight_of(scores[h][i], highest);
        s.sum[h] += scores[h][i];
      }
    }
    RF_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const int p = tile + i * kGroups + group;
      if (p >= end) continue;
      RF_UNROLL
      for (int j = 0; j < 8; ++j) {
        const float value = v[i].value(j);
        RF_UNROLL
        for (int h = 0; h < kHeads; ++h) s.values[h][j] = fma(scores[h][i], value, s.values[h][j]);
      }
    }
  }

  if constexpr (kLanes <= 8) merge_lanes<kWave, 8>(s);
  if constexpr (kLanes <= 16) merge_lanes<kWave, 16>(s);
  if constexpr (kWave == 64) merge_lanes<kWave, 32>(s);
  const int wave = thread_index() / kWave;
  if (thread_index() % kWave < kLanes) {
    RF_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      RF_UNROLL
      for (int j = 0; j < 8; ++j) values[(wave * kHeads + h) * kDim + dim + j] = s.values[h][j];
      maxima[wave * kHeads + h] = s.highest[h];
      sums[wave * kHeads + h] = s.sum[h];
    }
  }
  barrier();

  // A thread has four dimensions of a head.
  const int at = thread_index() * 4, h = at / kDim, d = at % kDim;
  const bool active = h < heads;
  const std::int64_t head_row = std::int64_t{t} * a.heads + first_head + h;
  float total[4] = {}, highest = kNone, sum = 0.0f;
  if (active) {
    RF_UNROLL
    for (int w = 0; w < kWaves; ++w) highest = higher(highest, maxima[w * kHeads + h]);
    RF_UNROLL
    for (int w = 0; w < kWaves; ++w) {
      const float weight = weight_of(maxima[w * kHeads + h], highest);
      sum = fma(weight, sums[w * kHeads + h], sum);
      RF_UNROLL
      for (int j = 0; j < 4; ++j)
        total[j] = fma(weight, values[(w * kHeads + h) * kDim + d + j], total[j]);
    }
  }
  if (a.splits > 1) {
    if (active) {
      const std::int64_t part = head_row * a.splits + block_z();
      store_four(a.partial + part * kDim + d, total);
      if (d == 0) {
        a.partial_ml[part * 2] = highest;
        a.partial_ml[part * 2 + 1] = sum;
      }
    }
    if (!arrives_last(a.arrivals + t * (a.kv_heads * chunks) + block_y(),
                      static_cast<std::uint32_t>(a.splits)))
      return;
    RF_UNROLL
    for (int j = 0; j < 4; ++j) total[j] = 0.0f;
    // Of every part its share, a lane a part; then the parts, several loads at once.
    const int part = thread_index() % kMaxStepSplits, of = thread_index() / kMaxStepSplits;
    const bool is_part = part < a.splits && of < heads;
    const float* ml =
        a.partial_ml + ((std::int64_t{t} * a.heads + first_head + of) * a.splits + part) * 2;
    const float its = is_part ? ml[0] : kNone, weighs = is_part ? ml[1] : 0.0f;
    highest = reduce_lanes<kWave, kMaxStepSplits>(its, Max{});
    const float share = weight_of(its, highest);
    sum = reduce_lanes<kWave, kMaxStepSplits>(share * weighs, Sum{});
    if (of < kHeads) {
      shares[of * kMaxStepSplits + part] = share;
      if (part == 0) sums[of] = sum;
    }
    barrier();
    if (active) {
      constexpr int kAtOnce = 8;
      sum = sums[h];
      const float* parts = a.partial + head_row * a.splits * kDim + d;
      RF_NO_UNROLL
      for (int first = 0; first < a.splits; first += kAtOnce) {
        float several[kAtOnce][4];
        RF_UNROLL
        for (int i = 0; i < kAtOnce; ++i) {
          const int at = first + i < a.splits ? first + i : first;
          load_four(several[i], parts + at * kDim);
        }
        RF_UNROLL
        for (int i = 0; i < kAtOnce; ++i) {
          const float weight = first + i < a.splits ? shares[h * kMaxStepSplits + first + i] : 0.0f;
          RF_UNROLL
          for (int j = 0; j < 4; ++j) total[j] = fma(weight, several[i][j], total[j]);
        }
      }
    }
  }
  if (wave * kWave * 4 >= kHeads * kDim) return;
  RF_UNROLL
  for (int j = 0; j < 4; ++j) total[j] = sum == 0.0f ? 0.0f : total[j] / sum;
  const int n = a.heads * kDim, position = first_head * kDim + at;
  if (a.y && active) store_four(a.y + std::int64_t{t} * n + position, total);
  if (a.quantized)
    store_quantized<kWave>(static_cast<char*>(a.quantized) + t * q8_row_bytes(n), n, position,
                           total, active);
}

}  // namespace

#define RF_STEP_ATTEND(name, Type, dim)                                                         \
  RF_KERNEL_VARIANT(step_attend, name##_d##dim##_g1, StepAttendArgs, step_attend, Type, dim, 1) \
  RF_KERNEL_VARIANT(step_attend, name##_d##dim##_g2, StepAttendArgs, step_attend, Type, dim, 2) \
  RF_KERNEL_VARIANT(step_attend, name##_d##dim##_g4, StepAttendArgs, step_attend, Type, dim, 4)
#define RF_STEP_ATTEND_DIMS(name, Type) \
  RF_STEP_ATTEND(name, Type, 64)        \
  RF_STEP_ATTEND(name, Type, 128)
RF_STEP_ATTEND_DIMS(f32, KvF32)
RF_STEP_ATTEND_DIMS(f16, KvF16)
RF_STEP_ATTEND_DIMS(bf16, KvBf16)
RF_STEP_ATTEND_DIMS(q8_0, KvQ8)
RF_EXPECT("step_attend_*", 192)

}  // namespace rocmforge::gpu
