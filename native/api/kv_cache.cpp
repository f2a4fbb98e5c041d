#include "api/kv_cache.hpp"

#include "api/attention_spec.hpp"
#include "api/backends.hpp"
#include "model/paged_attention.hpp"

namespace rocmforge::api {

struct KvCache::Parts {
  PagedAttention attention;
};

KvCache::KvCache(const Device& device, const AttentionShape& shape, const KvCacheSize& size)
    : parts_(new Parts{{open_backend(device, {size.max_tokens, size.max_seqs, size.num_blocks}, 0),
                        spec_of(shape), size.type, size.num_blocks, size.block_size,
                        size.max_tokens, size.max_seqs}}) {}
KvCache::~KvCache() = default;
KvCache::KvCache(KvCache&&) noexcept = default;
KvCache& KvCache::operator=(KvCache&&) noexcept = default;

std::int64_t KvCache::bytes() const { return parts_->attention.bytes(); }

void KvCache::store(std::span<const float> k, std::span<const float> v,
                    std::span<const std::int32_t> slots) {
  const DecoderSpec& spec = parts_->attention.spec();
  check(k.size() == slots.size() * static_cast<std::size_t>(spec.k_size()) &&
            v.size() == slots.size() * static_cast<std::size_t>(spec.v_size()),
        ErrorCode::kInvalidArgument, "k and v have a row for each slot");
  parts_->attention.store(k.data(), v.data(), slots);
}

void KvCache::attend(std::span<float> y, std::span<const float> q, const Sequences& sequences) {
  const DecoderSpec& spec = parts_->attention.spec();
  const auto& starts = sequences.query_start_loc;
  check(!starts.empty() && starts.back() >= 0, ErrorCode::kInvalidArgument,
        "query_start_loc ends with the number of tokens");
  const auto tokens = static_cast<std::size_t>(starts.back());
  check(q.size() == tokens * static_cast<std::size_t>(spec.q_size()) &&
            y.size() == tokens * static_cast<std::size_t>(spec.num_heads * spec.value_dim),
        ErrorCode::kInvalidArgument, "q and y have a row for each token");
  parts_->attention.attend(y.data(), q.data(), starts, sequences.seq_lens, sequences.block_tables,
                           sequences.max_blocks);
}

}  // namespace rocmforge::api
