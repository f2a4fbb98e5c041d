#include "gpu/step_parameters.hpp"

#include <algorithm>
#include <bit>
#include <string>

#include "core/error.hpp"

namespace rocmforge::gpu {
namespace {

void check_limit(const char* what, std::int64_t value, std::int64_t limit) {
  if (value > limit)
    throw Error(ErrorCode::kInvalidArgument, std::string("batch: ") + what + " " +
                                                 std::to_string(value) + " is above " +
                                                 std::to_string(limit));
}

}  // namespace

StepParameters::StepParameters(Device& device, const StepLimits& limits)
    : device_(device), limits_(limits) {
  const std::int64_t ints = kNumCounts + 4 * limits_.max_num_tokens + 2 * limits_.max_num_seqs + 1 +
                            limits_.max_num_seqs * limits_.max_blocks;
  const auto bytes = ints * static_cast<std::int64_t>(sizeof(std::int32_t));
  device_block_ = static_cast<std::int32_t*>(device_.allocate(bytes));
  for (Slot& slot : slots_) {
    slot.pinned = static_cast<std::int32_t*>(device_.allocate_pinned(bytes));
    slot.copied = device_.driver().create_event(/*timed=*/false);
  }
}

StepParameters::~StepParameters() {
  try {
    device_.make_current();
    device_.driver().synchronize(device_.stream());
    for (const Slot& slot : slots_) {
      device_.driver().destroy(slot.copied);
      device_.driver().free_pinned(slot.pinned);
    }
    device_.driver().free(device_block_);
  } catch (const Error&) {  // of a lost device, which frees nothing
  }
}

void StepParameters::set(const Batch& b) {
  check_limit("token count", b.num_tokens(), limits_.max_num_tokens);
  check_limit("sequence count", b.num_seqs(), limits_.max_num_seqs);
  check_limit("logit row count", b.num_logit_rows(), limits_.max_num_tokens);
  check_limit("width of the block tables", b.max_blocks, limits_.max_blocks);

  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  device_.wait(slot.copied);
  slot.pinned[0] = static_cast<std::int32_t>(b.num_tokens());
  slot.pinned[1] = static_cast<std::int32_t>(b.num_seqs());
  slot.pinned[2] = static_cast<std::int32_t>(b.num_logit_rows());
  const auto put = [&](const std::int32_t* place, std::span<const std::int32_t> values) {
    std::copy(values.begin(), values.end(), slot.pinned + (place - device_block_));
  };
  put(token_ids(), b.token_ids);
  put(positions(), b.positions);
  put(slot_mapping(), b.slot_mapping);
  put(logit_rows(), b.logit_rows);
  put(query_start_loc(), b.query_start_loc);
  put(seq_lens(), b.seq_lens);
  const auto width = static_cast<std::size_t>(b.max_blocks);
  table_stride_ = std::min(static_cast<std::int64_t>(std::bit_ceil(width)), limits_.max_blocks);
  for (std::int64_t i = 0; i < b.num_seqs(); ++i)
    put(block_tables() + i * table_stride_,
        b.block_tables.subspan(static_cast<std::size_t>(i) * width, width));
  const std::int64_t used = block_tables() - device_block_ + b.num_seqs() * table_stride_;
  device_.driver().copy_to_device(device_block_, slot.pinned,
                                  used * static_cast<std::int64_t>(sizeof(std::int32_t)),
                                  device_.stream());
  device_.driver().record(slot.copied, device_.stream());
}

}  // namespace rocmforge::gpu
