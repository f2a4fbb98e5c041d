// Tokens drawn where the logits are: the ids that the CPU would draw, so who draws can be chosen
// step by step. Ids stay on the device for the next step to read and come to the host in one small
// copy that nobody has to wait for until they are wanted.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "gpu/arena.hpp"
#include "gpu/device.hpp"
#include "model/sampling.hpp"

namespace rocmforge::gpu {

class DeviceSampler {
 public:
  // For up to max_rows rows of `vocab` logits; `memory` lives longer.
  DeviceSampler(Device& device, Arena& memory, std::int64_t max_rows, std::int64_t vocab);
  ~DeviceSampler();
  DeviceSampler(const DeviceSampler&) = delete;
  DeviceSampler& operator=(const DeviceSampler&) = delete;

  // Whether kernels draw all of its rows: they know no log-probabilities, masks, biases and
  // penalties.
  bool covers(const SamplingBatch& batch) const;
  // Queues the draws of a batch it covers, and returns their number for wait().
  std::int64_t draw(const float* logits, const SamplingBatch& batch);
  // The ids, -1 where a row allows no draw: of the last draws, kMaxQueued, and valid as long.
  std::span<const std::int32_t> wait(std::int64_t draw);
  // [max_rows] in device memory: of the last draw.
  const std::int32_t* ids() const { return ids_; }

 private:
  static constexpr std::int64_t kMaxQueued = 3;  // one running, one queued, one being read
  struct Slot {
    SampleRow* rows = nullptr;  // pinned
    std::int32_t* ids = nullptr;
    Event done = nullptr;
    std::int64_t num_rows = 0;
  };
  Slot& slot(std::int64_t draw) { return slots_[static_cast<std::size_t>(draw % kMaxQueued)]; }
  void free_slots();

  Device& device_;
  std::int64_t max_rows_, vocab_;
  Function top_, draw_;
  SampleRow* rows_;
  std::int32_t *ids_, *blocks_;
  float *maxima_, *tops_;
  std::uint64_t* sums_;
  std::uint32_t* arrivals_;
  std::array<Slot, kMaxQueued> slots_;
  std::int64_t num_draws_ = 0;
};

}  // namespace rocmforge::gpu
