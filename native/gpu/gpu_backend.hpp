// The Backend of a GPU: primitives as launches on the device's stream. Nothing waits for the device
// but to_host(); what changes from step to step reaches kernels through StepParameters.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "gpu/arena.hpp"
#include "gpu/device.hpp"
#include "gpu/device_sampler.hpp"
#include "gpu/fused_step.hpp"
#include "gpu/gpu_kv_cache.hpp"
#include "gpu/gpu_linear.hpp"
#include "gpu/step_graphs.hpp"
#include "gpu/step_parameters.hpp"
#include "ops/backend.hpp"

namespace rocmforge::gpu {

struct GpuOptions {
  std::string driver;  // "hip", "cuda" or "host"
  int ordinal = 0;
  std::string code_object;        // a file; unused by the emulation
  std::int64_t memory_limit = 0;  // bytes of the device that may be used
  bool float_activations = false;
  bool deterministic = false;
  std::int64_t weight_bytes = 0;  // of all tensors: what the arena of the weights begins with
  StepLimits limits;
};

class GpuBackend final : public Backend {
 public:
  explicit GpuBackend(const GpuOptions& options);
  ~GpuBackend() override;

  Device& device() { return device_; }
  const MemoryBudget& budget() const { return budget_; }
  const StepGraphs& graphs() const { return graphs_; }
  // Who multiplies matrices with hundreds of columns, and why.
  const std::string& gemm_report() const { return linear_.gemm_report(); }

  std::string_view name() const override { return device_.properties().name; }
  StoragePtr allocate(std::int64_t bytes) override;
  StoragePtr upload(std::span<const float> values) override;
  LinearPtr prepare(std::span<const Tensor> parts, WeightUse use) override;
  KvCachePtr create_kv_cache(const DecoderSpec& spec, KvType type, std::int64_t num_blocks,
                             std::int64_t block_size) override;
  float* to_host(Storage& storage, std::int64_t count) override;
  void from_host(Storage& storage, std::span<const float> values) override;
  void read_kv(const KvCache& kv, std::int64_t block, std::byte* to) override;
  void write_kv(KvCache& kv, std::int64_t block, const std::byte* from) override;

  void begin_step(Step& s) override;
  void run(Step& s, const std::function<void()>& stages) override;
  void embed(Step& s, const LinearWeights& table) override;
  void receive(Step& s) override;
  void qkv(Step& s, const LayerWeights& w) override;
  void attend(Step& s, const LayerWeights& w) override;
  void attn_output(Step& s, const LayerWeights& w) override;
  void gate_up(Step& s, const LayerWeights& w) override;
  void down(Step& s, const LayerWeights& w) override;
  void head(Step& s, const Storage& norm) override;
  void output(Activations& a, std::int64_t rows, const LinearWeights& w) override;
  bool draws(const SamplingBatch& sampling) const override;
  std::int64_t draw(const Storage& logits, const SamplingBatch& sampling) override;
  std::span<const std::int32_t> wait_for(std::int64_t draw) override;

 protected:
  void rms_norm(float* y, const float* x, const Storage& weight, std::int64_t rows, std::int64_t n,
                float eps) override;
  void rms_norm_heads(float* x, std::int64_t rows, std::int64_t row_stride, std::int64_t heads,
                      std::int64_t head_dim, const Storage& weight, float eps) override;
  PreparedActivation prepare_activation(const float* x, std::int64_t rows, std::int64_t cols,
                                        const LinearWeights& user) override;
  PreparedActivation prepare_normed(float* normed, const float* x, const Storage& weight,
                                    std::int64_t rows, std::int64_t n, float eps,
                                    const LinearWeights& user) override;
  PreparedActivation prepare_activated(float* activated, const float* x, std::int64_t rows,
                                       std::int64_t n, const LinearWeights& user) override;
  void linear(float* y, const PreparedActivation& x, const LinearWeights& w) override;
  void linear_experts(float* y, const PreparedActivation& x, const LinearWeights& w,
                      const Routing& routing, bool sorted) override;
  void add_bias(float* y, const Storage& bias, std::int64_t rows, std::int64_t n) override;
  void rope(Step& s, float* x, std::int64_t row_stride, std::int64_t heads) override;
  void store_kv(Step& s, const float* k, const float* v, std::int64_t row_stride) override;
  void attention(Step& s, const float* q, std::int64_t row_stride) override;
  void silu_mul(float* y, const float* x, std::int64_t rows, std::int64_t n) override;
  void add(float* y, const float* x, std::int64_t n) override;
  void gather_rows(float* y, const float* x, std::span<const std::int32_t> rows,
                   std::int64_t n) override;
  void route(Routing& routing, const float* logits, std::int64_t rows, std::int64_t experts,
             std::int64_t used) override;
  void combine(float* y, const float* x, const Routing& routing, std::int64_t rows,
               std::int64_t n) override;

 private:
  // Routing of a step on the device; the host's stays empty.
  struct Experts {
    std::int32_t *expert, *expert_begin, *slot_token, *slot_expert, *token_slot, *num_slots;
    float* weight;
  };
  struct Kernels {
    // *_tiles: null without matrix cores
    Function rms_norm, rms_norm_q8, rms_norm_bf16, rms_norm_tiles, rms_norm_heads, quantize,
        silu_mul, silu_mul_q8, silu_mul_bf16, silu_mul_tiles, add, add_bias, gather_rows, route,
        sort_slots, combine, rope_angles, rope, store_kv, attend_prefill, attend_mma, attend_decode,
        attend_combine;  // attend_mma: null if it is not used
  };
  template <class T>
  T* reserve(std::int64_t count);  // of the arena of activations, as long as it lives
  void check_columns(const DecoderSpec& spec) const;
  void load_kernels(const DecoderSpec& spec, KvType type);
  void reserve_step_memory(const DecoderSpec& spec);
  void prepare_fusion(const DecoderSpec& spec, KvType type);
  // The number of so many rows, in device memory.
  const std::int32_t* count(std::int64_t rows) const;
  // The number of columns that chooses the kernels of products with w.
  std::int64_t typical_columns(const GpuWeights& w, std::int64_t rows) const;
  std::int64_t most_decode_tokens() const;
  // Whether head() leaves its rows in quantized_ too, for products that read them so.
  bool head_is_quantized() const { return quantized_ != nullptr && hidden_is_quantizable_; }
  std::int64_t splits(const Batch& batch) const;
  void attend_split(AttendArgs& args, const Batch& batch);

  GpuOptions options_;
  Device device_;
  MemoryBudget budget_;
  Arena weights_, cache_, activations_;
  GpuLinear linear_;
  StepParameters step_;
  StepGraphs graphs_;
  // Of the step.
  std::int64_t num_tokens_ = 0, num_slots_ = 0;  // slots: tokens times experts each goes to
  bool rows_are_logit_rows_ = false;             // in head() and output()
  bool hidden_is_quantizable_ = false;
  bool step_is_fused_ = false, layer_is_fused_ = false;
  bool input_is_ready_ = false;  // of the next fused layer
  // Buffers of a step beyond the decoder's.
  std::int64_t most_columns_ = 0;  // of a matrix whose products quantize or round activations
  std::byte* quantized_ = nullptr;
  float *cos_ = nullptr, *sin_ = nullptr, *inv_freq_ = nullptr;
  float *partial_ = nullptr, *partial_ml_ = nullptr;
  Experts experts_{};
  Kernels k_{};
  std::optional<DeviceSampler> sampler_;
  std::optional<FusedStep> fused_;  // none: no layer of the model may be fused
  int decode_heads_ = 1;            // query heads of a KV head that attend_decode takes at once
};

}  // namespace rocmforge::gpu
