// What changes from step to step, in device memory at places that stay: kernels read it there, and
// so does a recorded graph. Pinned host slots in a ring feed it; a slot is written again only after
// the copy that read it is done.
#pragma once

#include <array>
#include <cstdint>

#include "gpu/device.hpp"
#include "model/batch.hpp"

namespace rocmforge::gpu {

struct StepLimits {
  std::int64_t max_num_tokens = 0, max_num_seqs = 0;
  std::int64_t max_blocks = 0;  // of a sequence
};

class StepParameters {
 public:
  StepParameters(Device& device, const StepLimits& limits);
  ~StepParameters();
  StepParameters(const StepParameters&) = delete;
  StepParameters& operator=(const StepParameters&) = delete;

  // Queues the copy. Throws Error(kInvalidArgument) for a batch beyond the limits, before anything
  // has happened.
  void set(const Batch& batch);

  // In device memory.
  const std::int32_t* num_tokens() const { return at(0); }
  const std::int32_t* num_seqs() const { return at(1); }
  const std::int32_t* num_rows() const { return at(2); }
  const std::int32_t* token_ids() const { return at(kNumCounts); }
  const std::int32_t* positions() const { return token_ids() + limits_.max_num_tokens; }
  const std::int32_t* slot_mapping() const { return positions() + limits_.max_num_tokens; }
  const std::int32_t* logit_rows() const { return slot_mapping() + limits_.max_num_tokens; }
  const std::int32_t* query_start_loc() const { return logit_rows() + limits_.max_num_tokens; }
  const std::int32_t* seq_lens() const { return query_start_loc() + limits_.max_num_seqs + 1; }
  const std::int32_t* block_tables() const { return seq_lens() + limits_.max_num_seqs; }
  // From one row of the tables to the next: a power of two or the limit, so that sequences that
  // grow change it seldom.
  std::int64_t table_stride() const { return table_stride_; }

 private:
  static constexpr std::int64_t kNumCounts = 4;
  struct Slot {
    std::int32_t* pinned = nullptr;
    Event copied = nullptr;
  };
  const std::int32_t* at(std::int64_t i) const { return device_block_ + i; }

  Device& device_;
  StepLimits limits_;
  std::int64_t table_stride_ = 0;
  std::int32_t* device_block_ = nullptr;
  std::array<Slot, 3> slots_;  // one step running, one queued, one being written
  std::size_t next_ = 0;
};

}  // namespace rocmforge::gpu
