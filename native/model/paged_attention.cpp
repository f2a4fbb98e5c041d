#include "model/paged_attention.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace rocmforge {
namespace {

void copy_rows(float* to, std::int64_t stride, const float* from, std::int64_t width,
               std::int64_t rows) {
  for (std::int64_t r = 0; r < rows; ++r) std::copy_n(from + r * width, width, to + r * stride);
}

void check_range(const char* what, std::int64_t value, std::int64_t begin, std::int64_t end) {
  if (value >= begin && value < end) return;
  throw Error(ErrorCode::kInvalidArgument, std::string(what) + " " + std::to_string(value) +
                                               " is outside [" + std::to_string(begin) + ", " +
                                               std::to_string(end) + ")");
}

}  // namespace

PagedAttention::PagedAttention(std::unique_ptr<Backend> backend, DecoderSpec spec, KvType type,
                               std::int64_t num_blocks, std::int64_t block_size,
                               std::int64_t max_tokens, std::int64_t max_seqs)
    : backend_(std::move(backend)),
      spec_(std::move(spec)),
      max_tokens_(max_tokens),
      max_seqs_(max_seqs) {
  check(spec_.num_heads > 0 && spec_.num_kv_heads > 0 && spec_.head_dim > 0 &&
            spec_.value_dim > 0 && max_tokens > 0 && max_seqs > 0,
        ErrorCode::kInvalidArgument, "every size of attention must be positive");
  check(spec_.num_heads % spec_.num_kv_heads == 0, ErrorCode::kInvalidArgument,
        "num_heads must be a multiple of num_kv_heads");
  kv_ = backend_->create_kv_cache(spec_, type, num_blocks, block_size);
  const auto bytes = [max_tokens](std::int64_t width) {
    return max_tokens * width * static_cast<std::int64_t>(sizeof(float));
  };
  a_.qkv = backend_->allocate(bytes(spec_.qkv_size()));
  a_.attended = backend_->allocate(bytes(spec_.num_heads * spec_.value_dim));
  qkv_.resize(static_cast<std::size_t>(max_tokens * spec_.qkv_size()));
}

void PagedAttention::store(const float* k, const float* v, std::span<const std::int32_t> slots) {
  const auto count = static_cast<std::int64_t>(slots.size());
  check_range("a number of tokens,", count, 0, max_tokens_ + 1);
  for (const std::int32_t slot : slots) check_range("slot", slot, 0, num_blocks() * block_size());
  if (count == 0) return;
  const std::int64_t stride = spec_.qkv_size();
  copy_rows(qkv_.data() + spec_.q_size(), stride, k, spec_.k_size(), count);
  copy_rows(qkv_.data() + spec_.q_size() + spec_.k_size(), stride, v, spec_.v_size(), count);
  const std::vector<std::int32_t> zeros(slots.size(), 0);
  const std::int32_t starts[] = {0, static_cast<std::int32_t>(count)};
  const std::int32_t lengths[] = {static_cast<std::int32_t>(count)};
  const Batch batch{zeros, zeros, slots, starts, lengths, {}, 0, {}};
  Step step{spec_, batch, a_, *kv_};
  backend_->from_host(*a_.qkv, {qkv_.data(), static_cast<std::size_t>(count * stride)});
  backend_->begin_step(step);
  backend_->store(step);
}

std::vector<std::int32_t> PagedAttention::checked_positions(
    std::span<const std::int32_t> query_start_loc, std::span<const std::int32_t> seq_lens,
    std::span<const std::int32_t> block_tables, std::int64_t max_blocks) const {
  const auto seqs = static_cast<std::int64_t>(seq_lens.size());
  check_range("a number of sequences,", seqs, 0, max_seqs_ + 1);
  check_range("a width of block tables,", max_blocks, 0, num_blocks() + 1);
  check(static_cast<std::int64_t>(query_start_loc.size()) == seqs + 1 &&
            static_cast<std::int64_t>(block_tables.size()) == seqs * max_blocks &&
            query_start_loc.front() == 0,
        ErrorCode::kInvalidArgument,
        "query_start_loc has S + 1 entries from 0 on, block_tables S rows");
  check_range("a number of tokens,", query_start_loc.back(), 0, max_tokens_ + 1);
  std::vector<std::int32_t> positions;
  for (std::size_t s = 0; s < seq_lens.size(); ++s) {
    const std::int64_t count = std::int64_t{query_start_loc[s + 1]} - query_start_loc[s];
    check_range("a sequence's number of tokens,", count, 0, max_tokens_ + 1);
    check_range("a sequence's length,", seq_lens[s], count, max_blocks * block_size() + 1);
    const std::int64_t used = (seq_lens[s] + block_size() - 1) / block_size();
    for (std::int64_t b = 0; b < used; ++b)
      check_range(
          "block",
          block_tables[s * static_cast<std::size_t>(max_blocks) + static_cast<std::size_t>(b)], 0,
          num_blocks());
    for (std::int64_t i = seq_lens[s] - count; i < seq_lens[s]; ++i)
      positions.push_back(static_cast<std::int32_t>(i));
  }
  return positions;
}

void PagedAttention::attend(float* y, const float* q, std::span<const std::int32_t> query_start_loc,
                            std::span<const std::int32_t> seq_lens,
                            std::span<const std::int32_t> block_tables, std::int64_t max_blocks) {
  const std::vector<std::int32_t> positions =
      checked_positions(query_start_loc, seq_lens, block_tables, max_blocks);
  if (positions.empty()) return;
  const auto count = static_cast<std::int64_t>(positions.size());
  const std::int64_t stride = spec_.qkv_size();
  copy_rows(qkv_.data(), stride, q, spec_.q_size(), count);
  const std::vector<std::int32_t> no_slots(positions.size(), -1);
  const Batch batch{positions, positions,    no_slots,   query_start_loc,
                    seq_lens,  block_tables, max_blocks, {}};
  Step step{spec_, batch, a_, *kv_};
  backend_->from_host(*a_.qkv, {qkv_.data(), static_cast<std::size_t>(count * stride)});
  backend_->begin_step(step);
  backend_->attend(step, {});
  const std::int64_t width = spec_.num_heads * spec_.value_dim;
  std::copy_n(backend_->to_host(*a_.attended, count * width), count * width, y);
}

}  // namespace rocmforge
