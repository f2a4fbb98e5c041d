// Decodes greedily:
//
//   rocmforge info model.gguf --tensors --json > model.json
//   cpp_host model.json cpu 16 1 9038 2501        # device, new tokens, ids of the prompt
#include <algorithm>
#include <charconv>
#include <fstream>
#include <iostream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "mapped_model.hpp"

namespace api = rocmforge::api;

namespace {

std::int32_t number(const std::string& text) {
  std::int32_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value < 0)
    throw rocmforge::Error(rocmforge::ErrorCode::kInvalidArgument, "'" + text + "' is no number");
  return value;
}

// One sequence, whose blocks are 0, 1, ... in order.
class Sequence {
 public:
  explicit Sequence(api::Decoder& decoder, std::int64_t num_blocks)
      : decoder_(decoder), blocks_(static_cast<std::size_t>(num_blocks)) {
    std::iota(blocks_.begin(), blocks_.end(), 0);
  }

  // The most probable token after those so far and `ids`.
  std::int32_t next_after(const std::vector<std::int32_t>& ids) {
    const auto count = static_cast<std::int32_t>(ids.size());
    std::vector<std::int32_t> positions(ids.size());
    std::iota(positions.begin(), positions.end(), length_);
    length_ += count;
    const std::int32_t starts[] = {0, count}, lengths[] = {length_}, last[] = {count - 1};
    rocmforge::Batch batch;
    batch.token_ids = ids;
    batch.positions = positions;
    batch.slot_mapping = positions;
    batch.query_start_loc = starts;
    batch.seq_lens = lengths;
    batch.block_tables = blocks_;
    batch.max_blocks = static_cast<std::int64_t>(blocks_.size());
    batch.logit_rows = last;
    const std::span<const float> logits = decoder_.step(batch);
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());
  }

 private:
  api::Decoder& decoder_;
  std::vector<std::int32_t> blocks_;
  std::int32_t length_ = 0;
};

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 4) {
    std::cerr << "usage: cpp_host INDEX.json DEVICE NEW_TOKENS ID...\n";
    return 2;
  }
  std::ifstream file(arguments[0]);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const api::ModelIndex index = api::read_index(text);
  const MappedModel model(index);

  std::vector<std::int32_t> ids;
  for (std::size_t i = 3; i < arguments.size(); ++i) ids.push_back(number(arguments[i]));
  const std::int32_t new_tokens = number(arguments[2]);
  const std::int64_t length = static_cast<std::int64_t>(ids.size()) + new_tokens;
  rocmforge::DecoderLimits limits;
  limits.max_num_tokens = static_cast<std::int64_t>(ids.size());
  limits.max_model_len = std::min(length, index.max_model_len);
  limits.num_blocks = (length + limits.block_size - 1) / limits.block_size;
  api::Decoder decoder(api::Device(arguments[1]), index.spec, model.weights(), limits);

  Sequence sequence(decoder, limits.num_blocks);
  for (std::int32_t i = 0; i < new_tokens; ++i) {
    ids = {sequence.next_after(ids)};
    std::cout << ids[0] << (i + 1 < new_tokens ? ' ' : '\n');
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  return run({argv + 1, argv + argc});
} catch (const rocmforge::Error& error) {
  std::cerr << "cpp_host: " << error.what() << '\n';
  return 1;
}
