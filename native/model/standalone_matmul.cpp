#include "model/standalone_matmul.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace rocmforge {
namespace {

constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));

std::int64_t checked_cols(std::span<const Tensor> parts) {
  check(!parts.empty(), ErrorCode::kInvalidArgument, "a matrix has at least one part");
  for (const Tensor& t : parts)
    check(t.data && t.rows > 0 && t.cols > 0 && t.num_matrices == 1 &&
              t.cols == parts.front().cols && t.cols % quant::info(t.format).block_weights == 0,
          ErrorCode::kInvalidArgument,
          "the parts of a matrix have memory, rows and the same columns, whole blocks of them");
  return parts.front().cols;
}

}  // namespace

StandaloneMatmul::StandaloneMatmul(std::unique_ptr<Backend> backend, std::span<const Tensor> parts,
                                   std::int64_t max_rows)
    : backend_(std::move(backend)), max_rows_(max_rows) {
  const std::int64_t cols = checked_cols(parts);
  check(max_rows > 0, ErrorCode::kInvalidArgument, "max_rows must be positive");
  weights_ = backend_->prepare(parts, WeightUse::kProducts);
  // A backend readies its memory of a step with the cache: here one block of one head, unused.
  spec_.num_layers = spec_.num_heads = spec_.num_kv_heads = 1;
  spec_.head_dim = spec_.value_dim = 64;
  spec_.hidden_size = spec_.ffn_size = static_cast<std::int32_t>(cols);
  kv_ = backend_->create_kv_cache(spec_, KvType::kF16, /*num_blocks=*/1, /*block_size=*/16);
  zeros_.assign(static_cast<std::size_t>(max_rows), 0);
  no_slots_.assign(static_cast<std::size_t>(max_rows), -1);
}

void StandaloneMatmul::run_on_device(float* y, const float* x, std::int64_t count) {
  if (count < 0 || count > max_rows_)
    throw Error(ErrorCode::kInvalidArgument, "a product of " + std::to_string(count) +
                                                 " rows; this matrix was made for 0 to " +
                                                 std::to_string(max_rows_));
  if (count == 0) return;
  const auto n = static_cast<std::size_t>(count);
  const std::int32_t starts[] = {0, static_cast<std::int32_t>(count)};
  const std::int32_t lengths[] = {static_cast<std::int32_t>(count)};
  const std::span<const std::int32_t> zeros(zeros_.data(), n);
  const Batch batch{zeros, zeros, {no_slots_.data(), n}, starts, lengths, {}, 0, {}};
  Step step{spec_, batch, a_, *kv_};
  backend_->begin_step(step);
  backend_->multiply(y, x, count, *weights_);
}

void StandaloneMatmul::run(float* y, const float* x, std::int64_t count) {
  if (!x_) {
    x_ = backend_->allocate(max_rows_ * cols() * kFloat);
    y_ = backend_->allocate(max_rows_ * rows() * kFloat);
  }
  const std::int64_t fitting = std::clamp<std::int64_t>(count, 0, max_rows_);
  backend_->from_host(*x_, {x, static_cast<std::size_t>(fitting * cols())});
  run_on_device(y_->floats(), x_->floats(), count);
  if (count > 0) std::copy_n(backend_->to_host(*y_, count * rows()), count * rows(), y);
}

}  // namespace rocmforge
