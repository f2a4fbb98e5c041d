#include "model/candidate_set.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace rocmforge {

std::uint64_t part_of(std::uint64_t total, std::uint64_t fraction) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(total) * fraction) >> 64);
}

void CandidateSet::allocate(std::int64_t n) {
  const auto size = static_cast<std::size_t>(n);
  const auto padded = static_cast<std::size_t>(n + cpu::kCollectSlack);
  ids_ = std::make_unique_for_overwrite<std::int32_t[]>(padded);
  logits_ = std::make_unique_for_overwrite<float[]>(padded);
  weights_ = std::make_unique_for_overwrite<std::uint64_t[]>(size);
  unordered_ = std::make_unique_for_overwrite<Candidate[]>(size);
}

void CandidateSet::collect(const cpu::SampleKernels& kernels, const float* x, const float* maxima,
                           std::int64_t n, float threshold) {
  size_ = kernels.collect(ids_.get(), logits_.get(), x, maxima, n, threshold);
}

void CandidateSet::keep_first(std::int64_t k) {
  if (size_ <= k) return;
  Candidate* c = unordered_.get();
  for (std::int64_t i = 0; i < size_; ++i) c[i] = {logits_[i], ids_[i], 0};
  std::nth_element(c, c + k - 1, c + size_);
  keep_up_to(c[k - 1]);
}

void CandidateSet::weigh(const cpu::SampleKernels& kernels, float top, float inv_temperature) {
  top_ = top;
  inv_temperature_ = inv_temperature;
  kernels.weights(weights_.get(), logits_.get(), size_, top, inv_temperature);
}

std::uint64_t CandidateSet::weight() const {
  return std::accumulate(weights_.get(), weights_.get() + size_, std::uint64_t{0});
}

void CandidateSet::keep_weight(std::uint64_t need) { keep_up_to(unordered_[select(need)]); }

// Returns where in `unordered_` the last candidate of the shortest prefix that weighs `need` is.
std::int64_t CandidateSet::select(std::uint64_t need) {
  // A histogram of the logits finds the narrow range that holds it without moving anything: a
  // selection over 150,000 candidates takes 2 ms, the histogram 0.2 ms. The last bin takes the
  // rest.
  constexpr int kBins = 1024;
  constexpr float kBinsPerUnit = 32.0f;
  const auto bin_of = [&](float logit) {
    return static_cast<int>(
        std::min((top_ - logit) * inv_temperature_ * kBinsPerUnit, float{kBins - 1}));
  };
  std::array<std::uint64_t, kBins> bins{};
  for (std::int64_t i = 0; i < size_; ++i)
    bins[static_cast<std::size_t>(bin_of(logits_[i]))] += weights_[i];
  int bin = 0;
  while (need > bins[static_cast<std::size_t>(bin)]) need -= bins[static_cast<std::size_t>(bin++)];

  Candidate* c = unordered_.get();
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < size_; ++i) {
    c[count] = {logits_[i], ids_[i], weights_[i]};
    count += bin_of(logits_[i]) == bin;
  }

  // Each turn halves the range that holds the end of the prefix, so time is linear on average.
  std::int64_t begin = 0, end = count;
  while (end - begin > 1) {
    const std::int64_t middle = begin + (end - begin) / 2;
    std::nth_element(c + begin, c + middle, c + end);
    std::uint64_t half = 0;
    for (std::int64_t i = begin; i < middle; ++i) half += c[i].weight;
    if (half >= need) {
      end = middle;
    } else {
      need -= half;
      begin = middle;
    }
  }
  return begin;
}

void CandidateSet::keep_up_to(const Candidate& last) {
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < size_; ++i) {
    const bool keep = !(last < Candidate{logits_[i], ids_[i], 0});
    ids_[kept] = ids_[i];
    logits_[kept] = logits_[i];
    weights_[kept] = weights_[i];
    kept += keep;
  }
  size_ = kept;
}

std::int32_t CandidateSet::draw(std::uint64_t random, std::uint64_t min_weight) const {
  const auto counted = [&](std::int64_t i) {
    return weights_[i] >= min_weight ? weights_[i] : std::uint64_t{0};
  };
  std::uint64_t total = 0;
  for (std::int64_t i = 0; i < size_; ++i) total += counted(i);
  const std::uint64_t target = part_of(total, random);
  std::uint64_t sum = 0;
  std::int64_t i = 0;
  while ((sum += counted(i)) <= target) ++i;
  return ids_[i];
}

}  // namespace rocmforge
