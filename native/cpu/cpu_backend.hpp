// The Backend of the CPU: primitives as loops of the kernel table over a thread pool.
#pragma once

#include <vector>

#include "core/buffer.hpp"
#include "core/thread_pool.hpp"
#include "cpu/attention.hpp"
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
  StoragePtr allocate(std::int64_t bytes) override;
  StoragePtr upload(std::span<const float> values) override;
  LinearPtr prepare(std::span<const Tensor> parts) override;
  KvCachePtr create_kv_cache(const DecoderSpec& spec, KvType type, std::int64_t num_blocks,
                             std::int64_t block_size) override;

  void begin_step(Step& s) override;
  void embed(Step& s, const LinearWeights& table) override;

 protected:
  void rms_norm(float* y, const float* x, const Storage& weight, std::int64_t rows, std::int64_t n,
                float eps) override;
  void rms_norm_heads(float* x, std::int64_t rows, std::int64_t row_stride, std::int64_t heads,
                      std::int64_t head_dim, const Storage& weight, float eps) override;
  PreparedActivation prepare_activation(const float* x, std::int64_t rows, std::int64_t cols,
                                        const LinearWeights& user) override;
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
  struct Activation {  // x as one activation type: row r at data + r * stride
    const void* data;
    std::int64_t stride;
  };
  Activation activation_for(const PreparedActivation& x, quant::Format format) const;
  // Those rows of an activation one after another; valid until the next call.
  const std::byte* gather(const Activation& a, const std::int32_t* rows, std::int64_t count);
  // Whether a product of so many columns goes through matrix tiles.
  bool wants_tiles(std::int64_t cols) const;
  // Packs columns for tiles: rows source[0..cols) of x, or without source the first ones.
  void pack(const float* x, const std::int32_t* source, std::int64_t k, std::int64_t cols);
  // y = the columns packed last times all rows of a matrix.
  void multiply_tiles(float* y, std::int64_t y_stride, const Tensor& w, const void* matrix,
                      std::int64_t cols);
  // Grows, never shrinks: a step of a size met before allocates nothing.
  static void* reserve(Buffer& buffer, std::int64_t bytes);

  Kernels k_;
  bool float_activations_;
  bool deterministic_;
  ThreadPool pool_;
  Buffer quantized_[quant::kNumActivationTypes];  // the prepared activation, by type
  std::int64_t quantized_stride_[quant::kNumActivationTypes] = {};
  Buffer packed_;                     // columns for matrix tiles
  std::vector<Buffer> tile_scratch_;  // per thread
  Buffer gathered_;                   // one expert group's rows
  std::vector<float> cos_, sin_;      // [T, rotary / 2]
  Attention attention_;
};

}  // namespace rocmforge::cpu
