#include "api/attention.hpp"

#include "api/attention_spec.hpp"
#include "api/backends.hpp"
#include "model/standalone_attention.hpp"

namespace rocmforge::api {

struct Attention::Parts {
  StandaloneAttention attention;
};

Attention::Attention(const Device& device, const AttentionShape& shape, std::int64_t max_tokens,
                     KvType type)
    : parts_(new Parts{{open_backend(device, {max_tokens, max_tokens, max_tokens}, 0),
                        spec_of(shape), type, max_tokens}}) {}
Attention::~Attention() = default;
Attention::Attention(Attention&&) noexcept = default;
Attention& Attention::operator=(Attention&&) noexcept = default;

void Attention::run(std::span<float> y, std::span<const float> q, std::span<const float> k,
                    std::span<const float> v, std::span<const bool> visible) {
  const DecoderSpec& spec = parts_->attention.spec();
  const auto size = [](const auto& s) { return static_cast<std::int64_t>(s.size()); };
  const std::int64_t queries = size(q) / spec.q_size(), positions = size(k) / spec.k_size();
  check(size(q) == queries * spec.q_size() && size(k) == positions * spec.k_size() &&
            size(v) == positions * spec.v_size() && size(visible) == queries * positions &&
            size(y) == queries * spec.num_heads * spec.value_dim,
        ErrorCode::kInvalidArgument,
        "y and q have a row a query, k and v one a position, the mask is [queries, positions]");
  parts_->attention.run(y.data(), q.data(), k.data(), v.data(), visible.data(), queries, positions);
}

}  // namespace rocmforge::api
