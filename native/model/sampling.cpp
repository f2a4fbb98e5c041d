#include "model/sampling.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>

#include "core/error.hpp"
#include "core/thread_pool.hpp"
#include "model/candidate_set.hpp"
#include "model/philox.hpp"

namespace rocmforge {
namespace {

using cpu::kSampleBlock;

constexpr double kWeightOne = 0x1p40;  // of the most probable token
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargestFloat = std::numeric_limits<float>::max();

std::uint64_t nucleus_weight(float top_p, std::uint64_t total) {
  const double need = std::ceil(static_cast<double>(top_p) * static_cast<double>(total));
  return std::clamp<std::uint64_t>(static_cast<std::uint64_t>(need), 1, total);
}

}  // namespace

// One thread's buffers for a row of n logits in b blocks.
struct SampleScratch {
  void allocate(std::int64_t n, std::int64_t b) {
    const auto size = [](std::int64_t x) { return static_cast<std::size_t>(x); };
    maxima = std::make_unique_for_overwrite<float[]>(size(b));
    folded = std::make_unique_for_overwrite<float[]>(size(b));
    sums = std::make_unique_for_overwrite<std::uint64_t[]>(size(b));
    candidates.allocate(n);
    unadjusted = std::make_unique_for_overwrite<float[]>(size(n));
  }

  std::unique_ptr<float[]> maxima;        // [b] of the row as it is
  std::unique_ptr<float[]> folded;        // [b] maxima of ever larger groups
  std::unique_ptr<std::uint64_t[]> sums;  // [b] weights
  std::unique_ptr<float[]> unadjusted;    // [n] what the row's adjustments replaced
  CandidateSet candidates;
};

namespace {

// The draw of one row. The members of `s` are valid for `x` as it is at the time of a call.
class Row {
 public:
  Row(const cpu::SampleKernels& kernels, SampleScratch& s, float* x, std::int64_t n,
      const SamplingBatch& batch, std::int64_t r)
      : kernels_(kernels), s_(s), x_(x), n_(n), batch_(batch), r_(static_cast<std::size_t>(r)) {}

  void sample(const SampledRows& out) {
    const std::int32_t num_logprobs = batch_.num_logprobs[r_];
    std::int32_t id = -1;
    SampleStatus status = SampleStatus::kOk;
    if (num_logprobs >= 0) {
      status = scan();
      if (status == SampleStatus::kOk) rank(num_logprobs, out);
    }
    if (status == SampleStatus::kOk) {
      adjust();
      mask();
      status = scan();
    }
    if (status == SampleStatus::kOk) {
      id = batch_.temperature[r_] == 0.0f ? most_probable() : draw();
      if (num_logprobs >= 0) out.logprobs[r_] = logprob(model_logit(id));
    }
    out.token_ids[r_] = id;
    out.status[r_] = status;
  }

 private:
  std::int64_t num_blocks() const { return (n_ + kSampleBlock - 1) / kSampleBlock; }

  SampleStatus scan() {
    kernels_.block_maxima(s_.maxima.get(), x_, n_);
    top_ = *std::max_element(s_.maxima.get(), s_.maxima.get() + num_blocks());
    if (top_ == kInfinity) return SampleStatus::kInfinite;
    return top_ == -kInfinity ? SampleStatus::kNoCandidate : SampleStatus::kOk;
  }

  // --- log-probabilities of the model

  void rank(std::int32_t count, const SampledRows& out) {
    model_top_ = top_;
    log_sum_ = std::log(static_cast<double>(sum_blocks(1.0f, 0)) / kWeightOne);
    std::int32_t* ids = out.top_ids + r_ * kMaxLogprobs;
    float* logprobs = out.top_logprobs + r_ * kMaxLogprobs;
    std::fill(ids, ids + kMaxLogprobs, -1);
    std::fill(logprobs, logprobs + kMaxLogprobs, -kInfinity);
    if (count == 0) return;
    collect(count);
    s_.candidates.keep_first(count);
    std::array<std::int64_t, kMaxLogprobs> order;
    const auto end = order.begin() + s_.candidates.size();
    std::iota(order.begin(), end, std::int64_t{0});
    std::sort(order.begin(), end, [&](std::int64_t i, std::int64_t j) {
      const float x = s_.candidates.logit(i), y = s_.candidates.logit(j);
      return x > y || (x == y && i < j);  // the candidates lie in the order of ids
    });
    for (std::int64_t i = 0; i < s_.candidates.size(); ++i) {
      ids[i] = s_.candidates.id(order[static_cast<std::size_t>(i)]);
      logprobs[i] = logprob(s_.candidates.logit(order[static_cast<std::size_t>(i)]));
    }
  }

  float logprob(float logit) const {
    return static_cast<float>(static_cast<double>(logit) - static_cast<double>(model_top_) -
                              log_sum_);
  }

  float model_logit(std::int32_t id) const {
    for (std::size_t j = first_adjustment(); j < last_adjustment(); ++j)
      if (batch_.adjust_ids[j] == id) return s_.unadjusted[j - first_adjustment()];
    return x_[id];
  }

  // --- adjustments

  std::size_t first_adjustment() const {
    return static_cast<std::size_t>(batch_.adjust_offsets[r_]);
  }
  std::size_t last_adjustment() const {
    return static_cast<std::size_t>(batch_.adjust_offsets[r_ + 1]);
  }

  void adjust() {
    const float penalty = batch_.repetition_penalty[r_];
    for (std::size_t j = first_adjustment(); j < last_adjustment(); ++j) {
      float& x = x_[batch_.adjust_ids[j]];
      s_.unadjusted[j - first_adjustment()] = x;
      x += batch_.adjust_bias[j];
      if (batch_.adjust_repeated[j]) x = x > 0.0f ? x / penalty : x * penalty;
      x -= batch_.adjust_subtract[j];
    }
  }

  void mask() {
    if (batch_.mask_row[r_] < 0) return;
    const std::uint32_t* words = batch_.masks.data() + batch_.mask_row[r_] * batch_.mask_words;
    for (std::int64_t begin = 0; begin < n_; begin += 32) {
      const std::int64_t count = std::min(n_ - begin, std::int64_t{32});
      std::uint32_t forbidden = ~words[begin / 32] & (0xffffffffu >> (32 - count));
      if (forbidden == 0xffffffffu) {
        std::fill_n(x_ + begin, 32, -kInfinity);
      } else {
        for (; forbidden != 0; forbidden &= forbidden - 1)
          x_[begin + std::countr_zero(forbidden)] = -kInfinity;
      }
    }
  }

  // --- the draw

  std::int32_t most_probable() const {
    const float* maxima = s_.maxima.get();
    std::int64_t i = (std::find(maxima, maxima + num_blocks(), top_) - maxima) * kSampleBlock;
    while (x_[i] != top_) ++i;
    return static_cast<std::int32_t>(i);
  }

  std::int32_t draw() {
    inv_temperature_ = std::min(1.0f / batch_.temperature[r_], kLargestFloat);
    const std::uint64_t random =
        philox_bits(batch_.seed[r_], static_cast<std::uint64_t>(batch_.position[r_]));
    const auto min_weight =
        static_cast<std::uint64_t>(std::ceil(static_cast<double>(batch_.min_p[r_]) * kWeightOne));
    const std::int64_t top_k = batch_.top_k[r_];
    const float top_p = batch_.top_p[r_];
    const bool all = top_k <= 0 || top_k >= n_;
    if (all && top_p >= 1.0f) return draw_from_all(random, min_weight);

    if (all) {
      collect_nucleus(top_p);
    } else {
      collect(top_k);
      s_.candidates.keep_first(top_k);
      s_.candidates.weigh(kernels_, top_, inv_temperature_);
      if (top_p < 1.0f) s_.candidates.keep_weight(nucleus_weight(top_p, s_.candidates.weight()));
    }
    return s_.candidates.draw(random, min_weight);
  }

  std::int32_t draw_from_all(std::uint64_t random, std::uint64_t min_weight) {
    const std::uint64_t target = part_of(sum_blocks(inv_temperature_, min_weight), random);
    std::uint64_t sum = 0;
    std::int64_t block = 0;
    while (sum + s_.sums[block] <= target) sum += s_.sums[block++];
    for (std::int64_t i = block * kSampleBlock;; ++i) {
      const std::uint64_t w = cpu::sample_weight(x_[i], top_, inv_temperature_);
      if (w >= min_weight) sum += w;
      if (sum > target) return static_cast<std::int32_t>(i);
    }
  }

  // The candidates become the shortest prefix of all tokens that reaches top_p.
  void collect_nucleus(float top_p) {
    const std::uint64_t need = nucleus_weight(top_p, sum_blocks(inv_temperature_, 0));
    // Most nuclei are a few tokens; having tried costs the others little.
    for (const std::int64_t guess : {std::int64_t{64}, std::int64_t{1024}, n_}) {
      collect(guess);
      s_.candidates.weigh(kernels_, top_, inv_temperature_);
      if (s_.candidates.weight() >= need) break;
    }
    s_.candidates.keep_weight(need);
  }

  // The candidates become all tokens from some threshold up that at least k tokens reach, or all.
  void collect(std::int64_t k) {
    const float threshold = std::max(kth_of_maxima(k), -kLargestFloat);
    s_.candidates.collect(kernels_, x_, s_.maxima.get(), n_, threshold);
  }

  // At least k logits are as large as the k-th largest maximum of disjoint groups. Folding the
  // blocks into fewer groups loosens that bound a little and makes the selection cheap.
  float kth_of_maxima(std::int64_t k) {
    std::int64_t groups = num_blocks();
    if (k > groups) return -kInfinity;
    float* f = s_.folded.get();
    std::copy_n(s_.maxima.get(), groups, f);
    while (groups >= 8 * k) {
      const std::int64_t half = (groups + 1) / 2;
      for (std::int64_t i = half; i < groups; ++i) f[i - half] = std::max(f[i - half], f[i]);
      groups = half;
    }
    std::nth_element(f, f + k - 1, f + groups, std::greater<float>{});
    return f[k - 1];
  }

  std::uint64_t sum_blocks(float inv_temperature, std::uint64_t min_weight) {
    kernels_.block_weights(s_.sums.get(), x_, s_.maxima.get(), n_, top_, inv_temperature,
                           min_weight);
    return std::accumulate(s_.sums.get(), s_.sums.get() + num_blocks(), std::uint64_t{0});
  }

  const cpu::SampleKernels& kernels_;
  SampleScratch& s_;
  float* x_;
  std::int64_t n_;
  const SamplingBatch& batch_;
  std::size_t r_;
  float top_ = 0.0f;
  float inv_temperature_ = 1.0f;
  float model_top_ = 0.0f;
  double log_sum_ = 0.0;
};

}  // namespace

Sampler::Sampler(const cpu::Kernels& kernels, int num_threads, std::int64_t vocab)
    : kernels_(kernels.sample), num_threads_(num_threads), vocab_(vocab) {
  if (vocab < 1 || vocab > cpu::kMaxSampleVocab)
    throw Error(ErrorCode::kInvalidArgument, "a vocabulary of " + std::to_string(vocab) +
                                                 " tokens cannot be sampled, only 1 to " +
                                                 std::to_string(cpu::kMaxSampleVocab));
  const std::int64_t num_blocks = (vocab + kSampleBlock - 1) / kSampleBlock;
  scratch_ = std::make_unique<SampleScratch[]>(static_cast<std::size_t>(num_threads));
  for (int i = 0; i < num_threads; ++i) scratch_[i].allocate(vocab, num_blocks);
}

Sampler::~Sampler() = default;

void Sampler::sample(ThreadPool* pool, float* logits, std::int64_t stride,
                     const SamplingBatch& batch, const SampledRows& out) {
  check(!pool || pool->num_threads() <= num_threads_, ErrorCode::kInternal,
        "the sampler has scratch for fewer threads than the pool has");
  const auto rows = [&](std::int64_t begin, std::int64_t end, int thread) {
    for (std::int64_t r = begin; r < end; ++r)
      Row(kernels_, scratch_[thread], logits + r * stride, vocab_, batch, r).sample(out);
  };
  if (pool) {
    pool->parallel_for(batch.num_rows(), 1, rows);
  } else {
    rows(0, batch.num_rows(), 0);
  }
}

}  // namespace rocmforge
