// Draws a token of every row that sample_top has not finished, by the steps of cpu/sample.hpp
// (sample_args.hpp). Candidates are never moved or sorted: a set of them is a threshold in the
// order of (logit descending, id ascending), and what reaches a count or a weight is found by
// bisecting the thresholds, each turn one sum over the candidates. They lie in few blocks of 64,
// whose maxima tell them. Rows without top-k need the weight of everything first, which all blocks
// of the grid add up; the last one goes on.
#include "include/arrival.hpp"
#include "include/block_sums.hpp"

#include "cpu/sample.hpp"

namespace rocmforge::gpu {
namespace {

constexpr float kLowest = -0x1.fffffep+127f;  // no draw of -infinity

// Descending order of logits, then ascending of ids, as descending order of integers.
RF_DEVICE std::uint64_t rank_key(float x, std::uint32_t id) {
  const std::uint32_t bits = quant::bits_of_float(x + 0.0f);  // -0 is 0
  const std::uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return std::uint64_t{ordered} << 32 | static_cast<std::uint32_t>(~id);
}

RF_DEVICE std::uint32_t logit_key(float x) {
  return static_cast<std::uint32_t>(rank_key(x, 0) >> 32);
}

// The upper half of a product of 128 bits.
RF_DEVICE std::uint64_t high_product(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t al = a & 0xffffffffu, ah = a >> 32, bl = b & 0xffffffffu, bh = b >> 32;
  const std::uint64_t middle = ah * bl + (al * bl >> 32);
  const std::uint64_t carried = al * bh + (middle & 0xffffffffu);
  return ah * bh + (middle >> 32) + (carried >> 32);
}

// ceil(top_p * total), from 1 to total.
RF_DEVICE std::uint64_t nucleus_weight(float top_p, std::uint64_t total) {
  const double need = static_cast<double>(top_p) * static_cast<double>(total);
  auto whole = static_cast<std::uint64_t>(need);
  if (static_cast<double>(whole) < need) ++whole;
  if (whole < 1) whole = 1;
  return whole < total ? whole : total;
}

template <int kWave>
class RowDraw {
 public:
  // `sums` and `scan`: shared memory
  RF_DEVICE RowDraw(const SampleArgs& a, std::int64_t row, std::uint64_t* sums, std::uint64_t* scan)
      : a_(a),
        how_(a.rows[row]),
        row_(row),
        x_(a.logits + row * a.n),
        num_blocks_((a.n + kSampleBlock - 1) / kSampleBlock),
        maxima_(a.maxima + row * num_blocks_),
        blocks_(a.blocks + row * num_blocks_),
        top_(a.top[row]),
        sums_(sums),
        scan_(scan) {}

  RF_DEVICE bool is_limited() const { return how_.top_k > 0 && how_.top_k < a_.n; }
  RF_DEVICE bool has_nucleus() const { return how_.top_p < 1.0f; }

  // Of a slice: of all tokens for top-p, else of those that min-p leaves.
  RF_DEVICE std::uint64_t slice_weight(int slice) {
    std::uint64_t total = 0;
    RF_NO_UNROLL
    for (int i = thread_index(); i < kSampleSlice; i += kThreads) {
      const int id = slice * kSampleSlice + i;
      if (id >= a_.n) break;
      const std::uint64_t w = weight(x_[id]);
      total += has_nucleus() ? w : counted(w);
    }
    std::uint32_t none = 0;
    sums_.add(total, none);
    return total;
  }

  // `slices`: their weights, for rows without top-k
  RF_DEVICE void draw(const std::uint64_t* slices, int num_slices) {
    std::uint64_t total = 0;
    if (!is_limited()) {
      RF_NO_UNROLL
      for (int i = 0; i < num_slices; ++i) total += slices[i];
    }
    int begin = 0, end = 0;
    std::uint64_t before = 0;
    if (is_limited() || has_nucleus()) {
      total = choose(total);
      end = num_hits_ * kSampleBlock;
    }
    std::uint64_t target = high_product(total, how_.random);
    if (end == 0) {
      int slice = 0;
      while (slice + 1 < num_slices && before + slices[slice] <= target) before += slices[slice++];
      begin = slice * kSampleSlice;
      end = begin + kSampleSlice < a_.n ? begin + kSampleSlice : a_.n;
      target -= before;
    }
    find(begin, end, target);
  }

 private:
  enum class Measure : std::uint8_t { kNumber, kWeight, kCounted };  // kCounted: after min-p

  // Makes the candidates what top-k and top-p leave, and returns the weight of those that min-p
  // does. `total`: the weight of all tokens, for rows without top-k.
  RF_DEVICE std::uint64_t choose(std::uint64_t total) {
    const bool limited = is_limited();
    Measure measure = limited ? Measure::kNumber : Measure::kWeight;
    std::uint64_t need =
        limited ? static_cast<std::uint64_t>(how_.top_k) : nucleus_weight(how_.top_p, total);
    std::int64_t guess = limited ? how_.top_k : 64;  // most nuclei are a few tokens
    bool has_enough = false, has_all = false;
    std::uint32_t count = 0;
    for (;;) {
      if (!has_enough) has_all = collect(guess);
      const std::uint64_t reached = sum(measure, threshold_, count);
      has_enough = limited || has_all || uniform(reached >= need);
      if (!has_enough) {
        guess = guess == 64 ? 1024 : a_.n;
        continue;
      }
      if (limited && measure == Measure::kWeight) need = nucleus_weight(how_.top_p, reached);
      if (uniform(reached > need)) reach(need, measure, count);
      if (measure == Measure::kWeight || !has_nucleus()) break;
      measure = Measure::kWeight;
    }
    return sum(Measure::kCounted, threshold_, count);
  }

  RF_DEVICE std::uint64_t weight(float x) const {
    return cpu::sample_weight(x, top_, how_.inv_temperature);
  }
  RF_DEVICE std::uint64_t counted(std::uint64_t w) const { return w >= how_.min_weight ? w : 0; }

  // What the candidates measure whose keys are at least `least`, and their number.
  RF_DEVICE std::uint64_t sum(Measure measure, std::uint64_t least, std::uint32_t& count) {
    std::uint64_t total = 0;
    count = 0;
    RF_NO_UNROLL
    for (int i = thread_index(); i < num_hits_ * kSampleBlock; i += kThreads) {
      const int id = blocks_[i / kSampleBlock] * kSampleBlock + i % kSampleBlock;
      if (id >= a_.n) continue;
      const float x = x_[id];
      if (!(x >= least_logit_) || rank_key(x, static_cast<std::uint32_t>(id)) < least) continue;
      ++count;
      if (measure == Measure::kNumber) continue;
      const std::uint64_t w = weight(x);
      total += measure == Measure::kWeight ? w : counted(w);
    }
    sums_.add(total, count);
    return measure == Measure::kNumber ? count : total;
  }

  // Raises the threshold to where the first of the candidates, which are `count`, measure `need`:
  // together they measure more.
  RF_DEVICE void reach(std::uint64_t need, Measure measure, std::uint32_t count) {
    std::uint64_t low = rank_key(least_logit_, ~0u), high = rank_key(top_, 0) + 1;
    if (low < threshold_) low = threshold_;
    std::uint32_t from_low = count, from_high = 0;  // how many
    while (uniform(from_low - from_high > 1)) {
      const std::uint64_t middle = low + (high - low) / 2;
      if (uniform(sum(measure, middle, count) >= need)) {
        low = middle;
        from_low = count;
      } else {
        high = middle;
        from_high = count;
      }
    }
    threshold_ = low;
  }

  // The candidates become the tokens from some logit up that at least k tokens reach. Returns
  // whether they are all that can be drawn: fewer blocks than k tell no such logit.
  RF_DEVICE bool collect(std::int64_t k) {
    const bool all = k > num_blocks_;
    least_logit_ = all ? kLowest : reached_by(static_cast<std::uint32_t>(k));
    const int share = (num_blocks_ + kThreads - 1) / kThreads;
    const int begin = thread_index() * share;
    const int end = begin + share < num_blocks_ ? begin + share : num_blocks_;
    std::uint64_t mine = 0, hits = 0;
    RF_NO_UNROLL
    for (int b = begin; b < end; ++b) mine += maxima_[b] >= least_logit_;
    std::uint64_t at = sum_before(mine, scan_, hits);
    RF_NO_UNROLL
    for (int b = begin; b < end; ++b)
      if (maxima_[b] >= least_logit_) blocks_[at++] = b;
    num_hits_ = static_cast<int>(hits);
    barrier();
    return all;
  }

  // A logit that at least k maxima reach, and few more.
  RF_DEVICE float reached_by(std::uint32_t k) {
    std::uint32_t low = 0, high = logit_key(top_) + 1;
    auto reaching = static_cast<std::uint32_t>(num_blocks_);
    while (uniform(reaching != k && high - low > 1)) {
      const std::uint32_t middle = low + (high - low) / 2;
      std::uint64_t none = 0;
      std::uint32_t count = 0;
      RF_NO_UNROLL
      for (int b = thread_index(); b < num_blocks_; b += kThreads)
        count += logit_key(maxima_[b]) >= middle;
      sums_.add(none, count);
      if (uniform(count >= k)) {
        low = middle;
        reaching = count;
      } else {
        high = middle;
      }
    }
    const float x = quant::float_of_bits(low & 0x80000000u ? low & 0x7fffffffu : ~low);
    return x >= kLowest ? x : kLowest;
  }

  // Stores the token at which the running sum of what is counted exceeds `target`, in the order of
  // ids: of blocks with candidates, or where there are none of the tokens [begin, end).
  RF_DEVICE void find(int begin, int end, std::uint64_t target) {
    const int share = (end - begin + kThreads - 1) / kThreads;
    const int first = begin + thread_index() * share;
    const int last = first + share < end ? first + share : end;
    std::uint64_t sum = 0;
    RF_NO_UNROLL
    for (int turn = 0; turn < 2; ++turn) {
      RF_NO_UNROLL
      for (int i = first; i < last; ++i) {
        const int id =
            num_hits_ == 0 ? i : blocks_[i / kSampleBlock] * kSampleBlock + i % kSampleBlock;
        if (id >= a_.n) break;
        const float x = x_[id];
        if (!(x >= least_logit_) || rank_key(x, static_cast<std::uint32_t>(id)) < threshold_)
          continue;
        sum += counted(weight(x));
        if (turn == 0 || sum <= target) continue;
        a_.ids[row_] = id;
        return;
      }
      if (turn == 1) return;
      std::uint64_t total = 0;
      const std::uint64_t mine = sum;
      sum = sum_before(mine, scan_, total);
      if (target < sum || target - sum >= mine) return;
    }
  }

  const SampleArgs& a_;
  const SampleRow how_;
  std::int64_t row_;
  const float* x_;
  int num_blocks_;
  const float* maxima_;
  std::int32_t* blocks_;  // with candidates, in order
  int num_hits_ = 0;
  float top_, least_logit_ = kLowest;
  std::uint64_t threshold_ = 0;  // least key of a candidate
  BlockSums<kWave> sums_;
  std::uint64_t* scan_;
};

template <int kWave>
RF_DEVICE void sample_draw(const SampleArgs& a) {
  RF_SHARED(std::uint64_t, sums, BlockSums<kWave>::kWords);
  RF_SHARED(std::uint64_t, scan, kThreads + 16);
  constexpr float kInfinite = __builtin_inff();
  const std::int64_t row = block_y();
  const float top = a.top[row];
  if (a.rows[row].inv_temperature == 0.0f || !(top > -kInfinite && top < kInfinite)) return;
  RowDraw<kWave> draw(a, row, sums, scan);
  const int num_slices = (a.n + kSampleSlice - 1) / kSampleSlice;
  std::uint64_t* slices = a.sums + row * num_slices;
  if (draw.is_limited()) {
    if (block_x() != 0) return;
  } else {
    const std::uint64_t mine = draw.slice_weight(block_x());
    if (thread_index() == 0) slices[block_x()] = mine;
    if (!arrives_last(a.arrivals + row, static_cast<std::uint32_t>(num_slices))) return;
  }
  draw.draw(slices, num_slices);
}

}  // namespace

RF_KERNEL_WAVES(sample_draw, SampleArgs, sample_draw)
RF_EXPECT("sample_draw", 64)

}  // namespace rocmforge::gpu
