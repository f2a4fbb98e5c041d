#include "api/decoder.hpp"

#include <utility>
#include <vector>

#include "api/backends.hpp"
#include "gpu/limits.hpp"
#include "model/decoder.hpp"

namespace rocmforge::api {
namespace {

std::vector<std::unique_ptr<Backend>> backends_for(const Device& device, const Weights& weights,
                                                   const DecoderLimits& limits,
                                                   std::int64_t max_num_seqs) {
  check(max_num_seqs > 0 && limits.block_size > 0 && limits.max_model_len > 0 &&
            limits.max_num_tokens > 0,
        ErrorCode::kInvalidArgument, "every limit of a decoder must be positive");
  std::int64_t bytes = 0;
  for (const auto& [name, t] : weights) {
    if (!t.data || reinterpret_cast<std::uintptr_t>(t.data) % alignof(float) != 0)
      throw Error(ErrorCode::kInvalidArgument,
                  "the memory of tensor " + name + " has to begin at a multiple of 4");
    const std::string problem =
        device.is_gpu() && t.rows > 1 ? gpu::columns_problem(t.cols) : std::string();
    if (!problem.empty()) throw Error(ErrorCode::kUnsupported, problem);
    bytes += gpu::Arena::room_for(t.bytes());
  }
  const std::int64_t blocks = (limits.max_model_len + limits.block_size - 1) / limits.block_size;
  std::vector<std::unique_ptr<Backend>> backends;
  backends.push_back(open_backend(device, {limits.max_num_tokens, max_num_seqs, blocks}, bytes));
  return backends;
}

}  // namespace

struct Decoder::Parts {
  rocmforge::Decoder decoder;
};

Decoder::Decoder(const Device& device, const DecoderSpec& spec, const Weights& weights,
                 const DecoderLimits& limits, std::int64_t max_num_seqs)
    : parts_(new Parts{{backends_for(device, weights, limits, max_num_seqs), DecoderPlacement{},
                        spec, weights, limits}}) {}
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

std::span<const float> Decoder::step(const Batch& batch) {
  parts_->decoder.forward(batch);
  const std::int64_t rows = parts_->decoder.num_rows();
  if (rows == 0) return {};
  return {parts_->decoder.logits(), static_cast<std::size_t>(rows * spec().vocab_size)};
}

const DecoderSpec& Decoder::spec() const { return parts_->decoder.spec(); }
std::int64_t Decoder::kv_bytes() const { return parts_->decoder.kv_bytes(); }
std::int64_t Decoder::weight_bytes() const { return parts_->decoder.weight_bytes(); }

}  // namespace rocmforge::api
