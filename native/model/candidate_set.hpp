// The tokens of a row that may still be drawn, with their logits and weights. They lie in the
// order of ids; "first" means in the order of (logit descending, id ascending). cpu/sample.hpp
// defines the steps.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu/sample.hpp"

namespace rocmforge {

class CandidateSet {
 public:
  // Room for rows of n logits.
  void allocate(std::int64_t n);

  std::int64_t size() const { return size_; }
  std::int32_t id(std::int64_t i) const { return ids_[i]; }
  float logit(std::int64_t i) const { return logits_[i]; }

  // Becomes the tokens with x >= threshold. `maxima` are the block maxima of x.
  void collect(const cpu::SampleKernels& kernels, const float* x, const float* maxima,
               std::int64_t n, float threshold);
  void keep_first(std::int64_t k);
  void weigh(const cpu::SampleKernels& kernels, float top, float inv_temperature);

  // What follows is for weighed candidates.
  std::uint64_t weight() const;
  // Keeps the shortest prefix that weighs at least `need`, which is from 1 to weight().
  void keep_weight(std::uint64_t need);
  // The id at which the running sum of the weights that are at least `min_weight` exceeds
  // `random` / 2^64 of their total.
  std::int32_t draw(std::uint64_t random, std::uint64_t min_weight) const;

 private:
  struct Candidate {
    float logit;
    std::int32_t id;
    std::uint64_t weight;

    bool operator<(const Candidate& other) const {
      return logit > other.logit || (logit == other.logit && id < other.id);
    }
  };

  std::int64_t select(std::uint64_t need);
  void keep_up_to(const Candidate& last);

  std::int64_t size_ = 0;
  float top_ = 0.0f;
  float inv_temperature_ = 1.0f;
  std::unique_ptr<std::int32_t[]> ids_;
  std::unique_ptr<float[]> logits_;
  std::unique_ptr<std::uint64_t[]> weights_;
  std::unique_ptr<Candidate[]> unordered_;  // copies that a selection moves about
};

// floor(fraction / 2^64 * total)
std::uint64_t part_of(std::uint64_t total, std::uint64_t fraction);

}  // namespace rocmforge
