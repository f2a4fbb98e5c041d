#include <cmath>
#include <string>

#include "core/error.hpp"
#include "model/sampling.hpp"

namespace rocmforge {
namespace {

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

void check_size(const char* name, std::size_t size, std::int64_t expected) {
  if (static_cast<std::int64_t>(size) != expected)
    fail("sampling array " + std::string(name) + " has " + std::to_string(size) + " entries, " +
         std::to_string(expected) + " are needed");
}

template <class T>
void check_row(const char* name, std::int64_t row, T value, bool ok, const char* range) {
  if (!ok)
    fail("sampling " + std::string(name) + " of row " + std::to_string(row) + " is " +
         std::to_string(value) + ", it must be " + range);
}

void check_adjustments(const SamplingBatch& b, std::int64_t rows, std::int64_t vocab) {
  std::int64_t begin = 0;
  for (std::int64_t r = 0; r <= rows; ++r) {
    const std::int64_t end = b.adjust_offsets[static_cast<std::size_t>(r)];
    check_row("adjust_offsets", r, end, r == 0 ? end == 0 : end >= begin && end - begin <= vocab,
              "0 at first, then at least the one before and at most a vocabulary more");
    begin = end;
  }
  const std::int64_t entries = begin;
  check_size("adjust_ids", b.adjust_ids.size(), entries);
  check_size("adjust_bias", b.adjust_bias.size(), entries);
  check_size("adjust_repeated", b.adjust_repeated.size(), entries);
  check_size("adjust_subtract", b.adjust_subtract.size(), entries);
  for (const std::int32_t id : b.adjust_ids)
    if (id < 0 || id >= vocab)
      fail("sampling adjusts token id " + std::to_string(id) + ", the logits have ids 0 to " +
           std::to_string(vocab - 1));
}

void check_masks(const SamplingBatch& b, std::int64_t rows, std::int64_t vocab) {
  const std::int64_t words = (vocab + 31) / 32;
  if (b.masks.size() % static_cast<std::size_t>(words) != 0)
    fail("sampling masks have " + std::to_string(b.masks.size()) + " words, rows of " +
         std::to_string(words) + " are needed");
  const std::int64_t masks = static_cast<std::int64_t>(b.masks.size()) / words;
  check_size("mask_row", b.mask_row.size(), rows);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int32_t row = b.mask_row[static_cast<std::size_t>(r)];
    check_row("mask_row", r, row, row >= -1 && row < masks, "-1 or the index of a mask");
    if (row >= 0 && b.mask_words != words)
      fail("sampling masks are " + std::to_string(b.mask_words) + " words wide, " +
           std::to_string(words) + " are needed");
  }
}

}  // namespace

void check_sampling(const SamplingBatch& b, std::int64_t rows, std::int64_t vocab) {
  check_size("temperature", b.temperature.size(), rows);
  check_size("top_k", b.top_k.size(), rows);
  check_size("top_p", b.top_p.size(), rows);
  check_size("min_p", b.min_p.size(), rows);
  check_size("repetition_penalty", b.repetition_penalty.size(), rows);
  check_size("seed", b.seed.size(), rows);
  check_size("position", b.position.size(), rows);
  check_size("num_logprobs", b.num_logprobs.size(), rows);
  check_size("adjust_offsets", b.adjust_offsets.size(), rows + 1);
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto i = static_cast<std::size_t>(r);
    // Every comparison is false for NaN.
    check_row("temperature", r, b.temperature[i],
              b.temperature[i] >= 0.0f && std::isfinite(b.temperature[i]), "0 or more and finite");
    check_row("top_p", r, b.top_p[i], b.top_p[i] >= 0.0f, "0 or more");
    check_row("min_p", r, b.min_p[i], b.min_p[i] >= 0.0f && b.min_p[i] <= 1.0f, "from 0 to 1");
    check_row("repetition_penalty", r, b.repetition_penalty[i],
              b.repetition_penalty[i] > 0.0f && std::isfinite(b.repetition_penalty[i]),
              "above 0 and finite");
    check_row("num_logprobs", r, b.num_logprobs[i],
              b.num_logprobs[i] >= -1 && b.num_logprobs[i] <= kMaxLogprobs, "from -1 to 20");
  }
  check_adjustments(b, rows, vocab);
  check_masks(b, rows, vocab);
}

}  // namespace rocmforge
