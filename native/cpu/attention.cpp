#include "cpu/attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "core/error.hpp"
#include "cpu/cpu_kv_cache.hpp"

namespace rocmforge::cpu {
namespace {

// Fewer items than this a thread leave too much to the last one.
constexpr std::int64_t kItemsPerThread = 4;
// Enough rows that the conversion of a tile of keys and values is under a tenth of the work on it.
constexpr std::int64_t kMostRows = 96;
static_assert(kMostRows <= kAttendMaxRows);
// Matrix tiles take rows by 32.
constexpr std::int64_t kTileRows = 32;

std::int64_t aligned(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }
std::int64_t float_bytes(std::int64_t n) { return aligned(n * std::int64_t{sizeof(float)}); }
std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

void Attention::fit(const Call& call, int num_threads) {
  const DecoderSpec& spec = call.spec;
  const AttendTileFns& tiles = call.kernels.attend_tiles;
  heads_ = spec.num_heads;
  kv_heads_ = spec.num_kv_heads;
  group_ = heads_ / kv_heads_;
  head_dim_ = spec.head_dim;
  value_dim_ = spec.value_dim;
  const bool plain = spec.layer(call.layer).window == 0 && spec.attention_cap == 0.0f &&
                     spec.distance_slopes.empty();
  const bool uses_tiles = call.tiles && plain && tiles.scratch_bytes &&
                          fits_attend_tiles(call.kv.block_size(), value_dim_);
  tile_rows_ = uses_tiles ? tiles.min_rows : INT64_MAX;
  most_rows_ = uses_tiles ? kAttendMaxRows : kMostRows;
  kernel_bytes_ = aligned(attend_scratch_bytes(head_dim_, value_dim_));
  if (uses_tiles)
    kernel_bytes_ = std::max(kernel_bytes_, aligned(tiles.scratch_bytes(head_dim_, value_dim_)));
  state_bytes_ = float_bytes(most_rows_ * attend_stride(value_dim_)) + 2 * float_bytes(most_rows_);
  scratch_bytes_ = kernel_bytes_ + float_bytes(most_rows_ * head_dim_) +
                   4 * float_bytes(most_rows_) + 2 * state_bytes_;
  scratch_.resize(static_cast<std::size_t>(num_threads));
  for (Buffer& buffer : scratch_)
    if (buffer.bytes() < static_cast<std::size_t>(scratch_bytes_))
      buffer = Buffer(static_cast<std::size_t>(scratch_bytes_));
}

void Attention::run(const Call& call, ThreadPool& pool) {
  fit(call, pool.num_threads());
  plan(call, pool.num_threads());
  const auto items = static_cast<std::int64_t>(items_.size()) * kv_heads_;
  if (items < kItemsPerThread * pool.num_threads() && pool.num_threads() > 1 && items > 0 &&
      items_[0].num_positions - items_[0].first_position > kAttendRange)
    run_ranges(call, pool);
  else
    run_items(call, pool);
}

Attention::Sight Attention::sight(const Call& call, std::int64_t sequence, std::int64_t token) {
  const std::int32_t position = call.batch.positions[static_cast<std::size_t>(token)];
  const std::int32_t window = call.spec.layer(call.layer).window;
  if (call.spec.causal) return {window > 0 ? std::max(position + 1 - window, 0) : 0, position + 1};
  const std::int32_t length = call.batch.seq_lens[static_cast<std::size_t>(sequence)];
  if (window == 0) return {0, length};
  return {std::max(position - window / 2, 0), std::min(position + window / 2 + 1, length)};
}

void Attention::plan(const Call& call, int num_threads) {
  const Batch& batch = call.batch;
  items_.clear();
  const std::int64_t all_rows = batch.num_tokens() * heads_;
  std::int64_t rows = ceil_div(all_rows, kItemsPerThread * num_threads);
  if (rows >= tile_rows_) rows = ceil_div(rows, kTileRows) * kTileRows;
  rows = std::clamp(rows, std::min(group_, most_rows_), most_rows_);
  for (std::int64_t s = 0; s < batch.num_seqs(); ++s) {
    const std::int64_t first = batch.query_start_loc[static_cast<std::size_t>(s)];
    const std::int64_t last = batch.query_start_loc[static_cast<std::size_t>(s) + 1];
    const std::int64_t seq_rows = (last - first) * group_;
    for (std::int64_t row = 0; row < seq_rows; row += rows) {
      Item item{s, row, std::min(rows, seq_rows - row), INT64_MAX, 0};
      for (std::int64_t t = row / group_; t <= (row + item.num_rows - 1) / group_; ++t) {
        const Sight seen = sight(call, s, first + t);
        item.num_positions = std::max<std::int64_t>(item.num_positions, seen.end);
        item.first_position = std::min<std::int64_t>(item.first_position, seen.begin);
      }
      items_.push_back(item);
    }
  }
  std::sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
    return a.num_rows * (a.num_positions - a.first_position) >
           b.num_rows * (b.num_positions - b.first_position);
  });
}

Attention::State Attention::state_at(std::byte* memory) const {
  auto* values = reinterpret_cast<float*>(memory);
  float* maximum = values + float_bytes(most_rows_ * attend_stride(value_dim_)) / 4;
  return {values, maximum, maximum + float_bytes(most_rows_) / 4};
}

void Attention::compute(State state, const Call& call, const Item& item, std::int64_t head,
                        std::int64_t range, std::byte* scratch) const {
  const Batch& b = call.batch;
  auto* q = reinterpret_cast<float*>(scratch + kernel_bytes_);
  auto* seen = reinterpret_cast<std::int32_t*>(q + float_bytes(most_rows_ * head_dim_) / 4);
  std::int32_t* first = seen + float_bytes(most_rows_) / 4;
  std::int32_t* position = first + float_bytes(most_rows_) / 4;
  auto* slope = reinterpret_cast<float*>(position + float_bytes(most_rows_) / 4);
  const bool windowed = call.spec.layer(call.layer).window > 0;
  const std::vector<float>& slopes = call.spec.distance_slopes;
  const std::int64_t first_token = b.query_start_loc[static_cast<std::size_t>(item.sequence)];
  for (std::int64_t r = 0; r < item.num_rows; ++r) {
    const std::int64_t token = first_token + (item.first_row + r) / group_;
    const std::int64_t query_head = head * group_ + (item.first_row + r) % group_;
    const float* from = call.q + token * call.q_stride + query_head * head_dim_;
    for (std::int64_t d = 0; d < head_dim_; ++d)
      q[r * head_dim_ + d] = from[d] * call.spec.attention_scale;
    const Sight of_row = sight(call, item.sequence, token);
    first[r] = of_row.begin;
    seen[r] = of_row.end;
    if (slopes.empty()) continue;
    position[r] = b.positions[static_cast<std::size_t>(token)];
    slope[r] = slopes[static_cast<std::size_t>(query_head)];
  }
  AttendArgs args{};
  args.values = state.values;
  args.maximum = state.maximum;
  args.sum = state.sum;
  args.q = q;
  args.seen = seen;
  args.first = windowed ? first : nullptr;
  args.slope = slopes.empty() ? nullptr : slope;
  args.position = position;
  args.cap = call.spec.attention_cap;
  args.block_table = b.block_tables.data() + item.sequence * b.max_blocks;
  args.k_base = call.kv.k(call.layer, head);
  args.v_base = call.kv.v(call.layer, head);
  args.chunk_bytes = call.kv.chunk_bytes();
  args.block_size = call.kv.block_size();
  args.rows = item.num_rows;
  const std::int64_t range_begin = range * kAttendRange;
  args.begin = std::max(range_begin, item.first_position / kAttendTile * kAttendTile);
  args.end = std::min(range_begin + kAttendRange, item.num_positions);
  args.stored = item.num_positions;
  args.head_dim = head_dim_;
  args.value_dim = value_dim_;
  args.scratch = scratch;
  const Kernels& k = call.kernels;
  const AttendFn* attend = item.num_rows >= tile_rows_ ? k.attend_tiles.attend : k.attend;
  attend[static_cast<int>(call.kv.type())](args);
}

void Attention::merge(State into, State from, std::int64_t rows) const {
  const std::int64_t stride = attend_stride(value_dim_);
  for (std::int64_t r = 0; r < rows; ++r) {
    if (from.sum[r] == 0.0f) continue;  // the row sees nothing of this range
    if (into.sum[r] == 0.0f) {          // nor of those before it, which others of the item see
      into.maximum[r] = from.maximum[r];
      into.sum[r] = from.sum[r];
      std::copy_n(from.values + r * stride, value_dim_, into.values + r * stride);
      continue;
    }
    const float maximum = std::max(into.maximum[r], from.maximum[r]);
    const float a = std::exp(into.maximum[r] - maximum), b = std::exp(from.maximum[r] - maximum);
    into.maximum[r] = maximum;
    into.sum[r] = into.sum[r] * a + from.sum[r] * b;
    float* y = into.values + r * stride;
    const float* x = from.values + r * stride;
    for (std::int64_t i = 0; i < value_dim_; ++i) y[i] = y[i] * a + x[i] * b;
  }
}

void Attention::finish(const Call& call, State state, const Item& item, std::int64_t head) const {
  const std::int64_t first_token =
      call.batch.query_start_loc[static_cast<std::size_t>(item.sequence)];
  for (std::int64_t r = 0; r < item.num_rows; ++r) {
    const std::int64_t token = first_token + (item.first_row + r) / group_;
    const std::int64_t query_head = head * group_ + (item.first_row + r) % group_;
    float* y = call.y + (token * heads_ + query_head) * value_dim_;
    const float* x = state.values + r * attend_stride(value_dim_);
    float scale = 1.0f / state.sum[r];
    if (call.sinks) {
      const float sink = call.sinks[query_head];
      const float maximum = std::max(state.maximum[r], sink);
      const float shrink = std::exp(state.maximum[r] - maximum);
      scale = shrink / (state.sum[r] * shrink + std::exp(sink - maximum));
    }
    for (std::int64_t i = 0; i < value_dim_; ++i) y[i] = x[i] * scale;
  }
}

void Attention::run_items(const Call& call, ThreadPool& pool) {
  // Heads outermost: consecutive items read the same keys and values.
  const auto items = static_cast<std::int64_t>(items_.size());
  pool.parallel_for(items * kv_heads_, 1, [&](std::int64_t begin, std::int64_t end, int thread) {
    auto* scratch = static_cast<std::byte*>(scratch_[static_cast<std::size_t>(thread)].data());
    const State total = state_at(scratch + scratch_bytes_ - 2 * state_bytes_);
    const State range = state_at(scratch + scratch_bytes_ - state_bytes_);
    for (std::int64_t i = begin; i < end; ++i) {
      const Item& item = items_[static_cast<std::size_t>(i % items)];
      const std::int64_t head = i / items;
      compute(total, call, item, head, item.first_range(), scratch);
      for (std::int64_t r = item.first_range() + 1; r * kAttendRange < item.num_positions; ++r) {
        compute(range, call, item, head, r, scratch);
        merge(total, range, item.num_rows);
        pool.note_progress();
      }
      finish(call, total, item, head);
    }
  });
}

void Attention::run_ranges(const Call& call, ThreadPool& pool) {
  const auto items = static_cast<std::int64_t>(items_.size());
  std::int64_t longest = 0;
  for (const Item& item : items_) longest = std::max(longest, item.num_positions);
  const std::int64_t most = ceil_div(longest, kAttendRange);
  const auto bytes = static_cast<std::size_t>(items * kv_heads_ * most * state_bytes_);
  if (ranges_.bytes() < bytes) ranges_ = Buffer(bytes);
  const auto state = [&](std::int64_t item, std::int64_t head, std::int64_t range) {
    return state_at(static_cast<std::byte*>(ranges_.data()) +
                    ((item * kv_heads_ + head) * most + range) * state_bytes_);
  };
  pool.parallel_for(
      items * kv_heads_ * most, 1, [&](std::int64_t begin, std::int64_t end, int thread) {
        auto* scratch = static_cast<std::byte*>(scratch_[static_cast<std::size_t>(thread)].data());
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t r = i % most, head = i / most % kv_heads_;
          const std::int64_t index = i / most / kv_heads_;
          const Item& item = items_[static_cast<std::size_t>(index)];
          if (r >= item.first_range() && r * kAttendRange < item.num_positions)
            compute(state(index, head, r), call, item, head, r, scratch);
        }
      });
  pool.parallel_for(items * kv_heads_, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Item& item = items_[static_cast<std::size_t>(i / kv_heads_)];
      const State total = state(i / kv_heads_, i % kv_heads_, item.first_range());
      for (std::int64_t r = item.first_range() + 1; r * kAttendRange < item.num_positions; ++r)
        merge(total, state(i / kv_heads_, i % kv_heads_, r), item.num_rows);
      finish(call, total, item, i % kv_heads_);
    }
  });
}

}  // namespace rocmforge::cpu
