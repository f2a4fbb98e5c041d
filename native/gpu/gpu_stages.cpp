// The stages of a step on a GPU: fused where FusedStep covers them, else the default ones.
#include <algorithm>
#include <vector>

#include "gpu/gpu_backend.hpp"
#include "include/launch.hpp"

namespace rocmforge::gpu {
namespace {

constexpr std::int64_t kFloat = sizeof(float);

}  // namespace

void GpuBackend::begin_step(Step& s) {
  device_.make_current();
  step_.set(s.batch);
  num_tokens_ = s.batch.num_tokens();
  num_slots_ = num_tokens_ * std::max(s.spec.num_experts_used, 1);
  // What the fused stages read as 8 bits for four tokens at a time, matrix cores read at once.
  step_is_fused_ = fused_ && num_tokens_ < linear_.min_mma_columns() && fused_->covers(s.batch);
  const auto half = static_cast<std::int64_t>(s.spec.rope.inv_freq.size());
  if (!half) return;
  const RopeAnglesArgs args{cos_,
                            sin_,
                            inv_freq_,
                            step_.positions(),
                            step_.num_tokens(),
                            narrow(half),
                            s.spec.rope.magnitude};
  device_.launch(k_.rope_angles, rope_angles_grid(num_tokens_, half), args);
}

void GpuBackend::run(Step& s, const std::function<void()>& stages) {
  const std::int64_t rows = s.batch.num_logit_rows();
  if (num_tokens_ != s.batch.num_seqs() || rows == 0 || !s.has_head) return stages();
  const StepShape shape{num_tokens_, rows, step_.table_stride(),
                        step_is_fused_ ? fused_->splits(s.batch) : splits(s.batch)};
  void* const head = s.a.head_normed->data();
  const std::int64_t bytes = rows * s.spec.hidden_size * kFloat;
  const auto result = [&] {
    std::vector<float> values(static_cast<std::size_t>(bytes / kFloat));
    device_.to_host(values.data(), head, bytes);
    return values;
  };
  const auto spoil = [&] { device_.driver().fill(head, 0xff, bytes, device_.stream()); };
  graphs_.run(shape, stages, result, spoil);
}

void GpuBackend::qkv(Step& s, const LayerWeights& w) {
  layer_is_fused_ = step_is_fused_ && fused_->covers(w);
  if (!layer_is_fused_) return Backend::qkv(s, w);
  if (!input_is_ready_) fused_->input(s, w);
  fused_->qkv(s, w);
}

void GpuBackend::attend(Step& s, const LayerWeights& w) {
  layer_is_fused_ ? fused_->attend(s, w, step_) : Backend::attend(s, w);
}

void GpuBackend::attn_output(Step& s, const LayerWeights& w) {
  layer_is_fused_ ? fused_->attn_output(s, w) : Backend::attn_output(s, w);
}

void GpuBackend::gate_up(Step& s, const LayerWeights& w) {
  layer_is_fused_ ? fused_->gate_up(s, w) : Backend::gate_up(s, w);
}

void GpuBackend::down(Step& s, const LayerWeights& w) {
  input_is_ready_ = layer_is_fused_ && fused_->down(s, w);
  if (!layer_is_fused_) Backend::down(s, w);
}

void GpuBackend::embed(Step& s, const LinearWeights& table) {
  input_is_ready_ = step_is_fused_ && s.next && fused_->covers(*s.next);
  if (input_is_ready_) return fused_->embed(s, table, step_, sampler_->ids());
  const GpuWeights::Part& part = gpu_weights(table).parts()[0];
  const EmbedArgs args{s.a.hidden->floats(), part.blocks,    step_.token_ids(),   sampler_->ids(),
                       step_.num_tokens(),   part.row_bytes, narrow(table.cols())};
  device_.launch(part.embed, row_grid(num_tokens_, table.cols()), args);
}

void GpuBackend::receive(Step& s) {
  input_is_ready_ = false;
  device_.driver().copy_on_device(s.a.hidden->data(), s.a.incoming->data(),
                                  num_tokens_ * s.spec.hidden_size * kFloat, device_.stream());
}

void GpuBackend::head(Step& s, const Storage& norm) {
  const RmsNormArgs args{s.a.head_normed->floats(), head_is_quantized() ? quantized_ : nullptr,
                         s.a.hidden->floats(),      norm.floats(),
                         step_.logit_rows(),        step_.num_rows(),
                         s.spec.hidden_size,        s.spec.norm_eps};
  device_.launch(head_is_quantized() ? k_.rms_norm_q8 : k_.rms_norm,
                 norm_grid(s.batch.num_logit_rows()), args);
}

void GpuBackend::output(Activations& a, std::int64_t rows, const LinearWeights& w) {
  device_.make_current();
  const float* x = a.head_normed->floats();
  if (fused_ && rows <= FusedStep::kMaxTokens && rows < linear_.min_mma_columns() &&
      fused_->covers(w))
    return fused_->output(a.logits->floats(), x, quantized_, rows, w);
  rows_are_logit_rows_ = true;
  linear(a.logits->floats(), {x, rows, w.cols()}, w);
  rows_are_logit_rows_ = false;
}

bool GpuBackend::draws(const SamplingBatch& sampling) const { return sampler_->covers(sampling); }

std::int64_t GpuBackend::draw(const Storage& logits, const SamplingBatch& sampling) {
  device_.make_current();
  return sampler_->draw(logits.floats(), sampling);
}

std::span<const std::int32_t> GpuBackend::wait_for(std::int64_t draw) {
  device_.make_current();
  return sampler_->wait(draw);
}

}  // namespace rocmforge::gpu
