// A model that runs steps, made of tensor views: where its weights are, in which format, of which
// shape. Who made the views keeps their memory (a mapped file) for as long as the decoder lives.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "api/device.hpp"
#include "core/tensor.hpp"
#include "model/batch.hpp"
#include "model/decoder_limits.hpp"
#include "model/spec.hpp"

namespace rocmforge::api {

// The decoder's names ("blk.0.attn_q.weight"), as `rocmforge info --tensors --json` gives them.
using Weights = std::unordered_map<std::string, Tensor>;

class RF_API Decoder {
 public:
  // Steps hold at most `max_num_seqs` sequences. Throws Error(kModelFile) naming a tensor that is
  // missing or has another shape than `spec` says.
  Decoder(const Device& device, const DecoderSpec& spec, const Weights& weights,
          const DecoderLimits& limits, std::int64_t max_num_seqs = 1);
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  // Runs one step and returns its logits, [batch.logit_rows, vocab], valid until the next one. A
  // batch that is out of range is an Error(kInvalidArgument) before anything has changed.
  std::span<const float> step(const Batch& batch);

  const DecoderSpec& spec() const;
  std::int64_t kv_bytes() const;      // of the cache
  std::int64_t weight_bytes() const;  // read by a step of one token

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace rocmforge::api
