// What the last steps drew: on the CPU, or on a device that may still be at it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "model/sampling.hpp"

namespace rocmforge::bindings {

// One row an entry; memory is kept from step to step.
struct DrawnStep {
  bool has_draws = false, has_logprobs = false;
  std::int64_t on_device = -1;  // number of the draw that brings token_ids
  bool is_here = false;         // these have come
  std::size_t num_rows = 0;
  std::vector<std::int32_t> token_ids, top_ids;
  std::vector<SampleStatus> status;
  std::vector<float> logprobs, top_logprobs;

  void clear() {
    has_draws = has_logprobs = is_here = false;
    on_device = -1;
    num_rows = 0;
  }
  void resize(std::size_t rows) {
    num_rows = rows;
    if (rows <= token_ids.size()) return;
    token_ids.resize(rows);
    status.resize(rows);
    logprobs.resize(rows);
    top_ids.resize(rows * kMaxLogprobs);
    top_logprobs.resize(rows * kMaxLogprobs);
  }
  SampledRows results() {
    return {token_ids.data(), status.data(), logprobs.data(), top_ids.data(), top_logprobs.data()};
  }
};

// By handle: 1 for the first step.
class DrawnSteps {
 public:
  static constexpr std::int64_t kLookahead = 1;

  std::int64_t last() const { return last_; }
  DrawnStep& of(std::int64_t handle) {
    return steps_[static_cast<std::size_t>(handle) % steps_.size()];
  }
  const DrawnStep& of(std::int64_t handle) const {
    return steps_[static_cast<std::size_t>(handle) % steps_.size()];
  }
  // The next step, which is the last one from end() on.
  DrawnStep& begin() {
    DrawnStep& step = of(last_ + 1);
    step.clear();
    return step;
  }
  void end() { ++last_; }

  // Ids of a batch with those put in that a step before drew on the CPU: any where it could not.
  std::span<const std::int32_t> known_ids(std::span<const std::int32_t> ids,
                                          const DrawnStep& before) {
    known_.assign(ids.begin(), ids.end());
    for (std::int32_t& id : known_) {
      const auto row = static_cast<std::size_t>(-1 - std::int64_t{id});
      if (id >= 0 || row >= before.num_rows) continue;  // the decoder checks what is left
      id = before.token_ids[row] < 0 ? 0 : before.token_ids[row];
    }
    return known_;
  }

 private:
  std::int64_t last_ = 0;
  std::array<DrawnStep, kLookahead + 2> steps_;  // the arrays of one are still being read
  std::vector<std::int32_t> known_;
};

}  // namespace rocmforge::bindings
