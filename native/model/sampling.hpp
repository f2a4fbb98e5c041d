// From rows of logits to token ids. cpu/sample.hpp states exactly how one row is drawn.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "cpu/kernels.hpp"

namespace rocmforge {

class ThreadPool;
struct SampleScratch;

constexpr int kMaxLogprobs = 20;

// How each of R rows is to be drawn. All arrays belong to the caller for the length of the call.
// engine/_sampling.pyx fills them.
struct SamplingBatch {
  std::span<const float> temperature;          // [R] 0: the most probable token
  std::span<const std::int32_t> top_k;         // [R] <= 0: off
  std::span<const float> top_p;                // [R] >= 1: off
  std::span<const float> min_p;                // [R] 0: off
  std::span<const float> repetition_penalty;   // [R] 1: off
  std::span<const std::uint64_t> seed;         // [R]
  std::span<const std::int64_t> position;      // [R] index the drawn token will have
  std::span<const std::int32_t> num_logprobs;  // [R] -1: none; n: the drawn token and the best n

  // Row r adjusts the tokens of entries [adjust_offsets[r], adjust_offsets[r + 1]), each once.
  std::span<const std::int32_t> adjust_offsets;   // [R + 1]
  std::span<const std::int32_t> adjust_ids;       // [A]
  std::span<const float> adjust_bias;             // [A] added first
  std::span<const std::uint8_t> adjust_repeated;  // [A] nonzero: repetition_penalty[r] applies
  std::span<const float> adjust_subtract;         // [A] presence and frequency penalties

  std::span<const std::int32_t> mask_row;  // [R] row of `masks`, -1: every token is allowed
  std::span<const std::uint32_t> masks;    // [M, mask_words] bit i % 32 of word i / 32
  std::int64_t mask_words = 0;             // ceil(vocab / 32)

  std::int64_t num_rows() const { return static_cast<std::int64_t>(temperature.size()); }
};

enum class SampleStatus : std::uint8_t {
  kOk,
  kNoCandidate,  // every allowed logit is NaN or -inf
  kInfinite,     // a logit is +inf
};

// Where the results of R rows go. A row whose status is not kOk has token id -1. Log-probabilities
// are those of the model: log-softmax of the logits as they came, before bias, penalties, mask and
// temperature. They are written only for rows that ask for them.
struct SampledRows {
  std::int32_t* token_ids;  // [R]
  SampleStatus* status;     // [R]
  float* logprobs;          // [R] of the drawn token
  std::int32_t* top_ids;    // [R, kMaxLogprobs] most probable first; -1 behind the last
  float* top_logprobs;      // [R, kMaxLogprobs]
};

// Throws Error(kInvalidArgument) unless every array has its length for `rows` rows and every id,
// offset and parameter its range for logits `vocab` wide.
void check_sampling(const SamplingBatch& batch, std::int64_t rows, std::int64_t vocab);

// Draws rows, one a thread. Holds the scratch that takes, so that a step allocates nothing.
class Sampler {
 public:
  // About 36 * vocab bytes of address space a thread; a row with few candidates touches little of
  // it. Throws Error(kInvalidArgument) for a vocabulary that is empty or above kMaxSampleVocab.
  Sampler(const cpu::Kernels& kernels, int num_threads, std::int64_t vocab);
  ~Sampler();

  // logits[r * stride .. + vocab) is row r; adjustments and masks change it. `batch` has passed
  // check_sampling(). Rows run in order on this thread where `pool` is null.
  void sample(ThreadPool* pool, float* logits, std::int64_t stride, const SamplingBatch& batch,
              const SampledRows& out);

 private:
  cpu::SampleKernels kernels_;
  int num_threads_;
  std::int64_t vocab_;
  std::unique_ptr<SampleScratch[]> scratch_;
};

}  // namespace rocmforge
