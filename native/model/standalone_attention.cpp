#include "model/standalone_attention.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/error.hpp"

namespace rocmforge {
namespace {

std::vector<std::int32_t> count_up(std::int64_t n) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(n));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

void copy_rows(float* to, std::int64_t stride, const float* from, std::int64_t width,
               std::int64_t rows) {
  for (std::int64_t r = 0; r < rows; ++r) std::copy_n(from + r * width, width, to + r * stride);
}

}  // namespace

StandaloneAttention::StandaloneAttention(std::unique_ptr<Backend> backend, DecoderSpec spec,
                                         KvType kv_type, std::int64_t max_tokens)
    : backend_(std::move(backend)), spec_(std::move(spec)), max_tokens_(max_tokens) {
  check(spec_.num_heads > 0 && spec_.num_kv_heads > 0 && spec_.head_dim > 0 &&
            spec_.value_dim > 0 && max_tokens > 0,
        ErrorCode::kInvalidArgument, "every size of attention must be positive");
  check(spec_.num_heads % spec_.num_kv_heads == 0, ErrorCode::kInvalidArgument,
        "num_heads must be a multiple of num_kv_heads");
  kv_ = backend_->create_kv_cache(spec_, kv_type, max_tokens, /*block_size=*/1);
  const auto bytes = [max_tokens](std::int64_t width) {
    return max_tokens * width * static_cast<std::int64_t>(sizeof(float));
  };
  a_.qkv = backend_->allocate(bytes(spec_.qkv_size()));
  a_.attended = backend_->allocate(bytes(spec_.num_heads * spec_.value_dim));
  qkv_.resize(static_cast<std::size_t>(max_tokens * spec_.qkv_size()));
}

void StandaloneAttention::store(const float* k, const float* v, std::int64_t positions) {
  const std::int64_t stride = spec_.qkv_size();
  copy_rows(qkv_.data() + spec_.q_size(), stride, k, spec_.k_size(), positions);
  copy_rows(qkv_.data() + spec_.q_size() + spec_.k_size(), stride, v, spec_.v_size(), positions);
  const std::vector<std::int32_t> at = count_up(positions);
  const std::int32_t starts[] = {0, static_cast<std::int32_t>(positions)};
  const std::int32_t length[] = {static_cast<std::int32_t>(positions)};
  const Batch batch{at, at, at, starts, length, at, positions, {}};
  Step step{spec_, batch, a_, *kv_};
  backend_->from_host(*a_.qkv, {qkv_.data(), static_cast<std::size_t>(positions * stride)});
  backend_->begin_step(step);
  backend_->store(step);
}

void StandaloneAttention::run(float* y, const float* q, const float* k, const float* v,
                              const bool* visible, std::int64_t queries, std::int64_t positions) {
  check(queries <= max_tokens_ && positions <= max_tokens_, ErrorCode::kInvalidArgument,
        "attention has more queries or positions than it was made for");
  const std::int64_t width = spec_.num_heads * spec_.value_dim;
  std::fill_n(y, queries * width, 0.0f);
  if (queries == 0 || positions == 0) return;
  store(k, v, positions);

  // Every query that sees anything is a sequence of its own, whose blocks are what it sees.
  const std::int64_t stride = spec_.qkv_size();
  std::vector<std::int64_t> seeing;
  std::vector<std::int32_t> at, lengths, tables;
  for (std::int64_t i = 0; i < queries; ++i) {
    const std::size_t row = tables.size();
    for (std::int64_t j = 0; j < positions; ++j)
      if (visible[i * positions + j]) tables.push_back(static_cast<std::int32_t>(j));
    const auto seen = static_cast<std::int32_t>(tables.size() - row);
    if (seen == 0) continue;
    tables.resize(row + static_cast<std::size_t>(positions), 0);
    copy_rows(qkv_.data() + static_cast<std::int64_t>(seeing.size()) * stride, stride,
              q + i * spec_.q_size(), spec_.q_size(), 1);
    seeing.push_back(i);
    lengths.push_back(seen);
    at.push_back(seen - 1);
  }
  if (seeing.empty()) return;
  const auto count = static_cast<std::int64_t>(seeing.size());
  const std::vector<std::int32_t> starts = count_up(count + 1);
  const Batch batch{at, at, at, starts, lengths, tables, positions, {}};
  Step step{spec_, batch, a_, *kv_};
  backend_->from_host(*a_.qkv, {qkv_.data(), static_cast<std::size_t>(count * stride)});
  backend_->begin_step(step);
  backend_->attend(step, {});
  const float* attended = backend_->to_host(*a_.attended, count * width);
  for (std::size_t i = 0; i < seeing.size(); ++i)
    std::copy_n(attended + static_cast<std::int64_t>(i) * width, width, y + seeing[i] * width);
}

}  // namespace rocmforge
