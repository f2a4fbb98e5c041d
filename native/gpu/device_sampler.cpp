#include "gpu/device_sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.hpp"
#include "include/launch.hpp"
#include "model/philox.hpp"

namespace rocmforge::gpu {
namespace {

SampleRow row_of(const SamplingBatch& b, std::size_t r) {
  SampleRow row{};
  if (b.temperature[r] == 0.0f) return row;
  row.random = philox_bits(b.seed[r], static_cast<std::uint64_t>(b.position[r]));
  row.min_weight = static_cast<std::uint64_t>(std::ceil(static_cast<double>(b.min_p[r]) * 0x1p40));
  row.inv_temperature = std::min(1.0f / b.temperature[r], std::numeric_limits<float>::max());
  row.top_p = b.top_p[r];
  row.top_k = std::max(b.top_k[r], 0);
  return row;
}

}  // namespace

DeviceSampler::DeviceSampler(Device& device, Arena& memory, std::int64_t max_rows,
                             std::int64_t vocab)
    : device_(device),
      max_rows_(max_rows),
      vocab_(vocab),
      top_(device.kernel("sample_top")),
      draw_(device.kernel("sample_draw")) {
  const std::int64_t blocks = ceil_div(vocab, kSampleBlock), slices = ceil_div(vocab, kSampleSlice);
  const auto reserve = [&]<class T>(T*& pointer, std::int64_t count) {
    pointer = static_cast<T*>(memory.allocate(count * static_cast<std::int64_t>(sizeof(T))));
  };
  reserve(rows_, max_rows);
  reserve(ids_, max_rows);
  reserve(blocks_, max_rows * blocks);
  reserve(maxima_, max_rows * blocks);
  reserve(tops_, max_rows);
  reserve(sums_, max_rows * slices);
  reserve(arrivals_, max_rows);
  device.driver().fill(arrivals_, 0, max_rows * 4, device.stream());
  try {
    for (Slot& slot : slots_) {
      slot.rows = static_cast<SampleRow*>(
          device.allocate_pinned(max_rows * static_cast<std::int64_t>(sizeof(SampleRow))));
      slot.ids = static_cast<std::int32_t*>(device.allocate_pinned(max_rows * 4));
      slot.done = device.driver().create_event(/*timed=*/false);
    }
  } catch (...) {
    free_slots();
    throw;
  }
}

DeviceSampler::~DeviceSampler() {
  try {
    device_.make_current();
    device_.driver().synchronize(device_.stream());
    free_slots();
  } catch (const Error&) {  // of a lost device, which frees nothing
  }
}

void DeviceSampler::free_slots() {
  for (const Slot& slot : slots_) {
    if (slot.done) device_.driver().destroy(slot.done);
    if (slot.ids) device_.driver().free_pinned(slot.ids);
    if (slot.rows) device_.driver().free_pinned(slot.rows);
  }
}

bool DeviceSampler::covers(const SamplingBatch& b) const {
  const auto none = [](std::span<const std::int32_t> values) {
    return std::all_of(values.begin(), values.end(), [](std::int32_t v) { return v < 0; });
  };
  return b.num_rows() <= max_rows_ && none(b.num_logprobs) && none(b.mask_row) &&
         b.adjust_ids.empty();
}

std::int64_t DeviceSampler::draw(const float* logits, const SamplingBatch& batch) {
  Slot& slot = this->slot(num_draws_);
  device_.wait(slot.done);
  slot.num_rows = batch.num_rows();
  bool any_random = false;
  for (std::int64_t r = 0; r < slot.num_rows; ++r) {
    slot.rows[r] = row_of(batch, static_cast<std::size_t>(r));
    any_random |= slot.rows[r].inv_temperature != 0.0f;
  }
  device_.driver().copy_to_device(rows_, slot.rows,
                                  slot.num_rows * static_cast<std::int64_t>(sizeof(SampleRow)),
                                  device_.stream());
  const SampleArgs args{ids_,  maxima_, tops_,
                        sums_, blocks_, arrivals_,
                        rows_, logits,  static_cast<std::int32_t>(vocab_)};
  const Grid grid = sample_grid(slot.num_rows, vocab_);
  device_.launch(top_, grid, args);
  if (any_random) device_.launch(draw_, grid, args);
  device_.driver().copy_to_host(slot.ids, ids_, slot.num_rows * 4, device_.stream());
  device_.driver().record(slot.done, device_.stream());
  return num_draws_++;
}

std::span<const std::int32_t> DeviceSampler::wait(std::int64_t draw) {
  check(draw >= 0 && draw < num_draws_ && draw + kMaxQueued >= num_draws_, ErrorCode::kInternal,
        "a draw that never was or whose ids are gone");
  const Slot& slot = this->slot(draw);
  device_.wait(slot.done);
  return {slot.ids, static_cast<std::size_t>(slot.num_rows)};
}

}  // namespace rocmforge::gpu
