#include <doctest/doctest.h>

#include <cstring>
#include <numeric>

#include "core/error.hpp"
#include "random_model.hpp"

using namespace rocmforge;
using rocmforge::test::OneSequence;
using rocmforge::test::RandomModel;

namespace {

std::vector<std::int32_t> tokens(int n) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) ids[static_cast<std::size_t>(i)] = i * 17 % 67;
  return ids;
}

// Logits after the last of `ids`, which are fed in chunks of `chunk`.
std::vector<float> last_logits(Decoder& d, const std::vector<std::int32_t>& ids, int chunk,
                               int block_size) {
  const int n = static_cast<int>(ids.size());
  for (int begin = 0; begin < n; begin += chunk) {
    const OneSequence s(ids, begin, std::min(begin + chunk, n), block_size);
    d.forward(s.batch());
  }
  const float* logits = d.logits();
  return {logits, logits + d.spec().vocab_size};
}

// Of two layers on up to three devices.
const DecoderPlacement kPlacements[] = {
    {0, 0, {1, 0}}, {0, 1, {0, 1}}, {1, 0, {1, 1}}, {0, 0, {1, 1}}, {2, 1, {0, 1}}};

}  // namespace

TEST_CASE("chunking, threads and page size do not change a bit of the logits") {
  for (const int experts : {0, 4}) {
    const RandomModel model(experts);
    const auto ids = tokens(37);
    const auto expected = last_logits(*model.decoder(1), ids, 37, 4);
    for (const int threads : {1, 2, 3})
      for (const int chunk : {1, 5, 36})
        for (const int block_size : {1, 4, 16}) {
          auto decoder = model.decoder(threads, block_size);
          const auto logits = last_logits(*decoder, ids, chunk, block_size);
          CHECK(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)) == 0);
        }
  }
}

TEST_CASE("layers spread over devices in any way give the bits of one device") {
  const RandomModel model(4);
  const auto ids = tokens(37);
  const auto expected = last_logits(*model.decoder(1), ids, 37, 4);
  REQUIRE(model.spec.num_layers == 2);
  for (const DecoderPlacement& placement : kPlacements) {
    auto decoder = model.decoder(1, 4, KvType::kF16, 3, placement);
    CHECK(decoder->kv_bytes() == model.decoder(1)->kv_bytes());
    const auto logits = last_logits(*decoder, ids, 5, 4);
    CHECK(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)) == 0);
  }
  CHECK_THROWS_AS(model.decoder(1, 4, KvType::kF16, 2, {0, 2, {0, 1}}), Error);
  CHECK_THROWS_AS(model.decoder(1, 4, KvType::kF16, 2, {0, 1, {0}}), Error);
}

TEST_CASE("what sets layers and ends of a model apart goes with them to their device") {
  RandomModel model;
  model.spec.layers = {{5, RopeUse::kLocal}, {0, RopeUse::kNone}};
  model.spec.local_rope.inv_freq = {0.5f, 0.2f};
  model.spec.embedding_scale = 2.0f;
  model.spec.logit_scale = 0.5f;
  model.spec.num_positions = 128;
  model.add("position_embd.weight", 1, model.spec.num_positions, model.spec.hidden_size);
  model.spec.output_bias = true;
  model.add("output.bias", 1, 1, model.spec.vocab_size);
  model.spec.attention_sinks = true;
  for (const char* sinks : {"blk.0.attn_sinks.weight", "blk.1.attn_sinks.weight"})
    model.add(sinks, 1, 1, model.spec.num_heads);
  const auto ids = tokens(37);
  const auto expected = last_logits(*model.decoder(1), ids, 37, 4);
  for (const DecoderPlacement& placement : kPlacements) {
    auto decoder = model.decoder(1, 4, KvType::kF16, 3, placement);
    const auto logits = last_logits(*decoder, ids, 5, 4);
    CHECK(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)) == 0);
  }
  std::swap(model.spec.layers[0], model.spec.layers[1]);
  CHECK(last_logits(*model.decoder(1), ids, 37, 4) != expected);
}

TEST_CASE("every cache type pages and cuts without changing a bit") {
  const RandomModel model(0, 32);
  const auto ids = tokens(101);
  for (int type = 0; type < kNumKvTypes; ++type) {
    const auto kv_type = static_cast<KvType>(type);
    const auto expected = last_logits(*model.decoder(1, 16, kv_type), ids, 101, 16);
    for (const int threads : {1, 2})
      for (const int chunk : {1, 63, 101})
        for (const int block_size : {5, 16, 32}) {
          auto decoder = model.decoder(threads, block_size, kv_type);
          const auto logits = last_logits(*decoder, ids, chunk, block_size);
          CHECK(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)) == 0);
        }
  }
}

TEST_CASE("heads that are no whole blocks of a cache type are refused") {
  CHECK_THROWS_WITH_AS(RandomModel(0, 24).decoder(1, 16, KvType::kQ8_0),
                       doctest::Contains("q8_0 needs heads of a multiple of 32"), Error);
}

TEST_CASE("an empty batch and one without logit rows run") {
  const RandomModel model;
  auto decoder = model.decoder(2);
  const std::vector<std::int32_t> zero = {0};
  decoder->forward({{}, {}, {}, zero, {}, {}, 0, {}});
  CHECK_THROWS_AS(decoder->logits(), Error);
  OneSequence s(tokens(3), 0, 3, 4);
  s.rows.clear();
  decoder->forward(s.batch());
  CHECK(decoder->num_rows() == 0);
}

TEST_CASE("a missing or misshapen tensor is named") {
  RandomModel model;
  model.weights["blk.1.ffn_up.weight"].rows += 1;
  CHECK_THROWS_WITH_AS(model.decoder(1), doctest::Contains("blk.1.ffn_up.weight is [49, 32]"),
                       Error);
  model.weights.erase("blk.1.ffn_up.weight");
  CHECK_THROWS_WITH_AS(model.decoder(1), "tensor blk.1.ffn_up.weight is missing", Error);
}

TEST_CASE("progress grows by every stage of a step and by the logits, and never falls") {
  const RandomModel model;
  for (const int threads : {1, 2}) {
    auto decoder = model.decoder(threads);
    std::uint64_t last = decoder->progress();
    for (const int n : {1, 37}) {
      const auto ids = tokens(n);
      const OneSequence s(ids, 0, n, 4);
      decoder->forward(s.batch());
      CHECK(decoder->progress() >= last + 2 + 5 * 2);  // embed, head and five stages a layer
      last = decoder->progress();
      CHECK(decoder->progress() == last);
      decoder->logits();
      CHECK(decoder->progress() > last);
      last = decoder->progress();
      decoder->logits();
      CHECK(decoder->progress() == last);  // there were logits already
    }
  }
}
