// The stages of a decode step in one launch each: norm and projections; everything around
// attention; the output projection and the residual; gate, up and activation; down and the
// residual. Five launches a layer for up to kMaxTokens tokens, one a sequence.
//
// Layers are covered or not by rules of shape (covers()): formats of step_formats.def, multiples of
// 32, heads of 64 or 128, no experts, no biases but of q, k and v, of the output and of down,
// norms before attention and before the feed-forward network and none after, one after the other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "gpu/device.hpp"
#include "gpu/gpu_kv_cache.hpp"
#include "gpu/gpu_linear.hpp"
#include "gpu/step_parameters.hpp"
#include "ops/backend.hpp"

namespace rocmforge::gpu {

// Memory of fused steps, of kMaxTokens rows where nothing else is said.
struct FusedBuffers {
  void *input, *inner;          // quantized rows: of the residual stream, of what is between
  float* squares;               // [hidden / 32]
  float *partial, *partial_ml;  // of attention
  std::uint32_t* arrivals;      // [heads], zeros
  const float *cos, *sin;       // of the step
};

class FusedStep {
 public:
  static constexpr std::int64_t kMaxTokens = 8, kMaxSplits = kMaxStepSplits;

  // Throws Error(kUnsupported) if the code object lacks a kernel.
  FusedStep(Device& device, const DecoderSpec& spec, KvType type, const FusedBuffers& buffers);

  static bool covers(const DecoderSpec& spec);
  bool covers(const Batch& batch) const;
  bool covers(const LayerWeights& w) const;
  bool covers(const LinearWeights& w) const;
  // Parts of the positions for attention: enough to fill the device, each long enough to pay.
  std::int64_t splits(const Batch& batch) const;

  // The first layer's input, from the embedding table. `drawn`: ids that tokens may refer to.
  void embed(const Step& s, const LinearWeights& table, const StepParameters& step,
             const std::int32_t* drawn);
  // hidden times the weight of w's norm: what a layer that no fused one precedes starts with.
  void input(const Step& s, const LayerWeights& w);
  void qkv(const Step& s, const LayerWeights& w);
  void attend(const Step& s, const LayerWeights& w, const StepParameters& step);
  void attn_output(const Step& s, const LayerWeights& w);
  void gate_up(const Step& s, const LayerWeights& w);
  // Returns whether the next layer's input is ready.
  bool down(const Step& s, const LayerWeights& w);
  // y = w . x of rows that are normed, floats and `quantized`.
  void output(float* y, const float* x, const void* quantized, std::int64_t rows,
              const LinearWeights& w);

 private:
  static constexpr std::size_t kNumColumns = std::size(kStepColumns);
  using ByColumns = std::array<Function, kNumColumns>;

  StepOutput next(const Step& s, const Storage& norm, const LinearWeights& user) const;
  void residual(const Step& s, const LinearWeights& w, const void* x, const Storage* bias,
                const StepOutput& out);
  void project(float* y, const StepInput& in, const LinearWeights& w, const Storage* bias);
  int wave() const { return device_.properties().wave_size; }

  Device& device_;
  const DecoderSpec& spec_;
  FusedBuffers buffers_;
  int group_ = 1;  // query heads that attention takes at once
  Function input_ = nullptr, attend_ = nullptr;
  std::array<Function, quant::kNumFormats> embed_{};
  ByColumns project_{};
  std::array<ByColumns, quant::kNumFormats> gate_up_{}, residual_{};
};

}  // namespace rocmforge::gpu
