// The Backend of the CPU: primitives as loops of the kernel table over a thread pool.
#pragma once

#include <vector>

#include "core/thread_pool.hpp"
#include "cpu/attention.hpp"
#include "cpu/cpu_linear.hpp"
#include "cpu/kernels.hpp"
#include "ops/backend.hpp"

namespace rocmforge::cpu {

struct CpuOptions {
  int num_threads = 1;
  bool float_activations = false;  // neither 8-bit nor bfloat16 ones, for comparison
  bool deterministic = false;      // one kernel family for every number of rows
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, const CpuOptions& options);

  ThreadPool& pool() { return pool_; }
  const Kernels& kernels() const { return k_; }

  std::string_view name() const override { return "cpu"; }
  std::uint64_t progress() const noexcept override { return pool_.progress(); }
  StoragePtr allocate(std::int64_t bytes) override;
  StoragePtr upload(std::span<const float> values) override;
  LinearPtr prepare(std::span<const Tensor> parts, WeightUse use) override;
  KvCachePtr create_kv_cache(const DecoderSpec& spec, KvType type, std::int64_t num_blocks,
                             std::int64_t block_size) override;
  float* to_host(Storage& storage, std::int64_t) override { return storage.floats(); }
  void from_host(Storage& storage, std::span<const float> values) override;
  void read_kv(const KvCache& kv, std::int64_t block, std::byte* to) override;
  void write_kv(KvCache& kv, std::int64_t block, const std::byte* from) override;

  void begin_step(Step& s) override;
  void embed(Step& s, const LinearWeights& table) override;
  void receive(Step& s) override;

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
  void layer_norm(float* y, const float* x, const Storage& weights, std::int64_t rows,
                  std::int64_t n, float eps) override;
  void layer_norm_heads(float* x, std::int64_t rows, std::int64_t row_stride, std::int64_t heads,
                        std::int64_t head_dim, const Storage& weights, float eps) override;
  void copy_heads(const Heads& to, const Heads& from, std::int64_t rows, std::int64_t heads,
                  std::int64_t n) override;
  void linear_heads(const Heads& y, const Heads& x, std::int64_t rows,
                    const LinearWeights& w) override;
  void activate(Activation activation, float* y, const float* x, std::int64_t rows,
                std::int64_t n) override;
  void scale(float* x, float factor, std::int64_t rows, std::int64_t n) override;
  void soft_cap(float* x, float cap, std::int64_t rows, std::int64_t n) override;
  void gate_rows(float* x, const float* gate, std::int64_t rows, std::int64_t n) override;
  void add_positions(Step& s, float* x, const Storage& table, std::int64_t n) override;
  void add_expert_bias(float* y, const Storage& bias, const Routing& routing,
                       std::int64_t n) override;

 private:
  // cos and sin of a rotation, [T, rotary / 2].
  struct Angles {
    std::vector<float> cos, sin;
    void compute(const RopeSpec& rope, const Batch& batch, ThreadPool& pool);
  };

  Kernels k_;
  ThreadPool pool_;
  bool tiles_;  // whether attention may round to bfloat16
  CpuLinear linear_;
  Angles main_angles_, local_angles_;  // of DecoderSpec::rope and local_rope
  Attention attention_;
  std::vector<float> head_inputs_, head_outputs_;  // of linear_heads(), head by head
};

}  // namespace rocmforge::cpu
