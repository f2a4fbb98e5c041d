#include "gpu/fused_step.hpp"

#include <algorithm>
#include <bit>
#include <iterator>
#include <string>

namespace rocmforge::gpu {
namespace {

bool has_kernels(quant::Format f) {
  switch (quant::info(f).gguf_id) {
#define RF_STEP_FORMAT(name, id, Block, activation) case id:
#include "include/step_formats.def"
#undef RF_STEP_FORMAT
    return true;
    default:
      return false;
  }
}

// Whether x is quantized for it, of weights that are covered.
bool reads_quantized(const LinearWeights& w) { return gpu_weights(w).parts()[0].quantized; }

const void* input_of(const LinearWeights& w, const void* quantized, const float* floats) {
  return reads_quantized(w) ? quantized : floats;
}

// Of kStepColumns the one that `columns` take.
std::size_t shared_columns(std::int64_t columns) {
  std::size_t i = 0;
  while (i + 1 < std::size(kStepColumns) && kStepColumns[i] < columns) ++i;
  return i;
}

}  // namespace

FusedStep::FusedStep(Device& device, const DecoderSpec& spec, KvType type,
                     const FusedBuffers& buffers)
    : device_(device), spec_(spec), buffers_(buffers) {
  group_ = kStepGroup[0];
  for (const int g : kStepGroup)
    if (group_ < spec.num_heads / spec.num_kv_heads) group_ = g;
  input_ = device.kernel("step_input");
  attend_ = device.kernel("step_attend_" + std::string(info(type).name) + "_d" +
                          std::to_string(spec.head_dim) + "_g" + std::to_string(group_));
  for (std::size_t f = 0; f < quant::kNumFormats; ++f)
    embed_[f] = device.kernel("step_embed_" + std::string(quant::kFormats[f].name));
  for (std::size_t c = 0; c < kNumColumns; ++c) {
    const std::string columns = "c" + std::to_string(kStepColumns[c]);
    project_[c] = device.kernel("step_project_" + columns);
    for (std::size_t f = 0; f < quant::kNumFormats; ++f) {
      if (!has_kernels(static_cast<quant::Format>(f))) continue;
      const std::string variant = std::string(quant::kFormats[f].name) + "_" + columns;
      gate_up_[f][c] = device.kernel("step_gate_up_" + variant);
      residual_[f][c] = device.kernel("step_residual_" + variant);
    }
  }
}

bool FusedStep::covers(const DecoderSpec& spec) {
  const auto rotated = static_cast<std::int64_t>(spec.rope.inv_freq.size());
  const bool has_dim =
      std::find(std::begin(kStepDims), std::end(kStepDims), spec.head_dim) != std::end(kStepDims);
  return has_dim && spec.value_dim == spec.head_dim && spec.num_experts == 0 &&
         spec.qk_norm == QkNorm::kHead && !spec.parallel_residual && spec.hidden_size % 32 == 0 &&
         spec.hidden_size <= kMaxStepWidth && spec.ffn_size % 32 == 0 && rotated % 4 == 0 &&
         (spec.rope.interleaved || rotated == 0 || 2 * rotated == spec.head_dim);
}

bool FusedStep::covers(const Batch& batch) const {
  if (batch.num_tokens() != batch.num_seqs() || batch.num_tokens() > kMaxTokens) return false;
  for (std::size_t i = 0; i < batch.seq_lens.size(); ++i)
    if (batch.query_start_loc[i] != static_cast<std::int32_t>(i)) return false;
  return true;
}

bool FusedStep::covers(const LinearWeights& w) const {
  const auto& parts = gpu_weights(w).parts();
  if (w.num_matrices() != 1 || w.cols() % 32 != 0 || parts.size() > 3) return false;
  return std::all_of(parts.begin(), parts.end(), [&](const GpuWeights::Part& p) {
    const bool wants_quantized = quant::info(p.format).activation == quant::ActivationType::kQ8x32;
    return has_kernels(p.format) && p.quantized == wants_quantized &&
           p.quantized == parts[0].quantized && (p.quantized || p.row_bytes % 16 == 0);
  });
}

bool FusedStep::covers(const LayerWeights& w) const {
  if (w.router || w.gate_up_bias || w.attn_post_norm || w.ffn_post_norm) return false;
  if (!w.attn_norm || !w.ffn_norm) return false;
  for (const LinearPtr* each : {&w.qkv, &w.attn_output, &w.gate_up, &w.down})
    if (!covers(**each)) return false;
  return gpu_weights(*w.gate_up).parts().size() == 1;
}

std::int64_t FusedStep::splits(const Batch& batch) const {
  constexpr std::int64_t kPositions = 64;
  const std::int64_t group = spec_.num_heads / spec_.num_kv_heads;
  const std::int64_t blocks = batch.num_tokens() * spec_.num_kv_heads * ceil_div(group, group_);
  const std::int64_t room = 2 * device_.properties().num_multiprocessors / blocks;
  const std::int64_t longest = *std::max_element(batch.seq_lens.begin(), batch.seq_lens.end());
  const std::int64_t wanted = std::min(ceil_div(longest, kPositions), room);
  // A power of two: a recorded step is kept for each number.
  return std::min<std::int64_t>(static_cast<std::int64_t>(std::bit_floor(
                                    static_cast<std::uint64_t>(std::max<std::int64_t>(wanted, 1)))),
                                kMaxSplits);
}

StepOutput FusedStep::next(const Step& s, const Storage& norm, const LinearWeights& user) const {
  const bool quantized = reads_quantized(user);
  return {norm.floats(), quantized ? buffers_.input : nullptr,
          quantized ? nullptr : s.a.normed->floats(), buffers_.squares};
}

void FusedStep::embed(const Step& s, const LinearWeights& table, const StepParameters& step,
                      const std::int32_t* drawn) {
  const GpuWeights::Part& part = gpu_weights(table).parts()[0];
  const std::int64_t tokens = s.batch.num_tokens();
  StepEmbedArgs args{};
  args.y = s.a.hidden->floats();
  args.table = part.blocks;
  args.token_ids = step.token_ids();
  args.drawn = drawn;
  args.out = next(s, *s.next->attn_norm, *s.next->qkv);
  args.row_bytes = part.row_bytes;
  args.n = spec_.hidden_size;
  device_.launch(embed_[static_cast<std::size_t>(part.format)],
                 step_input_grid(tokens, spec_.hidden_size), args);
}

void FusedStep::input(const Step& s, const LayerWeights& w) {
  const std::int64_t tokens = s.batch.num_tokens();
  const StepInputArgs args{s.a.hidden->floats(), next(s, *w.attn_norm, *w.qkv), narrow(tokens),
                           spec_.hidden_size};
  device_.launch(input_, step_input_grid(tokens, spec_.hidden_size), args);
}

void FusedStep::project(float* y, const StepInput& in, const LinearWeights& w,
                        const Storage* bias) {
  StepProjectArgs args{};
  args.y = y;
  args.bias = bias ? bias->floats() : nullptr;
  args.in = in;
  args.y_stride = w.rows();
  StepMatrix* const matrices[] = {&args.first, &args.second, &args.third};
  const auto& parts = gpu_weights(w).parts();
  for (std::size_t i = 0; i < parts.size(); ++i)
    *matrices[i] = {parts[i].blocks, parts[i].row_bytes, narrow(parts[i].rows),
                    quant::info(parts[i].format).gguf_id};
  const std::size_t c = shared_columns(in.columns);
  device_.launch(project_[c],
                 step_project_grid(args.first.rows, args.second.rows, args.third.rows, in.columns,
                                   kStepColumns[c], wave()),
                 args);
}

void FusedStep::qkv(const Step& s, const LayerWeights& w) {
  const StepInput in{input_of(*w.qkv, buffers_.input, s.a.normed->floats()), buffers_.squares,
                     narrow(s.batch.num_tokens()), spec_.hidden_size, spec_.norm_eps};
  project(s.a.qkv->floats(), in, *w.qkv, w.qkv_bias.get());
}

void FusedStep::attend(const Step& s, const LayerWeights& w, const StepParameters& step) {
  const auto& kv = static_cast<const GpuKvCache&>(s.kv);
  const bool quantized = reads_quantized(*w.attn_output);
  StepAttendArgs args{};
  args.quantized = quantized ? buffers_.inner : nullptr;
  args.y = quantized ? nullptr : s.a.attended->floats();
  args.partial = buffers_.partial;
  args.partial_ml = buffers_.partial_ml;
  args.arrivals = buffers_.arrivals;
  args.qkv = s.a.qkv->floats();
  args.q_norm = w.q_norm ? w.q_norm->floats() : nullptr;
  args.k_norm = w.k_norm ? w.k_norm->floats() : nullptr;
  args.cos = buffers_.cos;
  args.sin = buffers_.sin;
  args.cache = kv.layer(s.layer);
  args.slot_mapping = step.slot_mapping();
  args.seq_lens = step.seq_lens();
  args.block_tables = step.block_tables();
  args.max_blocks = step.table_stride();
  args.layout = kv.layout();
  args.heads = spec_.num_heads;
  args.kv_heads = spec_.num_kv_heads;
  const bool rotates = spec_.layer(s.layer).rope != RopeUse::kNone;
  args.half = rotates ? narrow(static_cast<std::int64_t>(spec_.rope.inv_freq.size())) : 0;
  args.interleaved = spec_.rope.interleaved;
  args.block_size = narrow(kv.block_size());
  args.splits = narrow(splits(s.batch));
  args.eps = spec_.norm_eps;
  args.scale = spec_.attention_scale;
  device_.launch(
      attend_,
      step_attend_grid(s.batch.num_tokens(), args.heads, args.kv_heads, args.splits, group_), args);
}

void FusedStep::residual(const Step& s, const LinearWeights& w, const void* x, const Storage* bias,
                         const StepOutput& out) {
  const GpuWeights::Part& part = gpu_weights(w).parts()[0];
  const std::int64_t tokens = s.batch.num_tokens();
  StepResidualArgs args{};
  args.hidden = s.a.hidden->floats();
  args.bias = bias ? bias->floats() : nullptr;
  args.out = out;
  args.in = {x, nullptr, narrow(tokens), narrow(w.cols()), 0.0f};
  args.w = part.blocks;
  args.row_bytes = part.row_bytes;
  args.rows = narrow(w.rows());
  const std::size_t c = shared_columns(tokens);
  device_.launch(residual_[static_cast<std::size_t>(part.format)][c],
                 step_rows_grid(w.rows(), tokens, kStepColumns[c]), args, kStepResidualThreads);
}

void FusedStep::attn_output(const Step& s, const LayerWeights& w) {
  residual(s, *w.attn_output, input_of(*w.attn_output, buffers_.inner, s.a.attended->floats()),
           w.attn_output_bias.get(), next(s, *w.ffn_norm, *w.gate_up));
}

void FusedStep::gate_up(const Step& s, const LayerWeights& w) {
  const GpuWeights::Part& part = gpu_weights(*w.gate_up).parts()[0];
  const std::int64_t tokens = s.batch.num_tokens();
  const bool quantized = reads_quantized(*w.down);
  StepGateUpArgs args{};
  args.quantized = quantized ? buffers_.inner : nullptr;
  args.y = quantized ? nullptr : s.a.activated->floats();
  args.in = {input_of(*w.gate_up, buffers_.input, s.a.normed->floats()), buffers_.squares,
             narrow(tokens), spec_.hidden_size, spec_.norm_eps};
  args.gate = part.blocks;
  args.up = part.blocks + spec_.ffn_size * part.row_bytes;
  args.row_bytes = part.row_bytes;
  args.rows = spec_.ffn_size;
  const std::size_t c = shared_columns(tokens);
  device_.launch(gate_up_[static_cast<std::size_t>(part.format)][c],
                 step_rows_grid(spec_.ffn_size, tokens, kStepColumns[c]), args, kStepGateUpThreads);
}

bool FusedStep::down(const Step& s, const LayerWeights& w) {
  const bool ready = s.next && covers(*s.next);
  residual(s, *w.down, input_of(*w.down, buffers_.inner, s.a.activated->floats()),
           w.down_bias.get(), ready ? next(s, *s.next->attn_norm, *s.next->qkv) : StepOutput{});
  return ready;
}

void FusedStep::output(float* y, const float* x, const void* quantized, std::int64_t rows,
                       const LinearWeights& w) {
  project(y, {input_of(w, quantized, x), nullptr, narrow(rows), narrow(w.cols()), 0.0f}, w,
          nullptr);
}

}  // namespace rocmforge::gpu
