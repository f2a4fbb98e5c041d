// Recorded steps. A step of single tokens whose launches are those of an earlier one is recorded
// once and replayed from then on, which saves the launches; what differs between them is in device
// memory (StepParameters). Before a record is used its result is compared with that of launching
// one by one: some versions of ROCm have replayed stale pointers. A difference, or a runtime that
// cannot record, ends recording for good.
#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "gpu/device.hpp"

namespace rocmforge::gpu {

// All that the launches of a step depend on.
struct StepShape {
  std::int64_t num_tokens, num_rows, max_blocks, splits;
  auto operator<=>(const StepShape&) const = default;
};

class StepGraphs {
 public:
  explicit StepGraphs(Device& device) : device_(device) {}
  ~StepGraphs();
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  // Replays the step, or launches it with `stages` and, when its shape came before, records it.
  // `result` brings what the step computed to the host; `spoil` makes it something else where it
  // is: a record that leaves it alone must not pass for one that computes it.
  void run(const StepShape& shape, const std::function<void()>& stages,
           const std::function<std::vector<float>()>& result, const std::function<void()>& spoil);
  // Memory that recorded launches point at has moved: records are made again.
  void forget();

  // For any thread.
  std::int64_t num_replays() const { return num_replays_; }
  std::string problem() const { return has_problem_ ? problem_ : ""; }  // why nothing is recorded

 private:
  void record(Graph& graph, const std::function<void()>& stages,
              const std::function<std::vector<float>()>& result,
              const std::function<void()>& spoil);
  void replay(Graph graph);
  void stop(const std::string& why);

  Device& device_;
  std::map<StepShape, Graph> records_;  // null for a shape that was met once
  std::atomic<std::int64_t> num_replays_{0};
  std::string problem_;  // written once, before the next
  std::atomic<bool> has_problem_{false};
};

}  // namespace rocmforge::gpu
