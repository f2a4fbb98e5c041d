// Products with one quantized matrix alone, on the backend of any device.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ops/backend.hpp"

namespace rocmforge {

class StandaloneMatmul {
 public:
  // `parts` share their columns; their rows follow one another. Products have at most `max_rows`
  // input rows. The backend may keep pointing at the parts' memory.
  StandaloneMatmul(std::unique_ptr<Backend> backend, std::span<const Tensor> parts,
                   std::int64_t max_rows);

  std::int64_t rows() const { return weights_->rows(); }
  std::int64_t cols() const { return weights_->cols(); }
  // y [count, rows()] = x [count, cols()] times the transpose of the matrix; memory of the host.
  void run(float* y, const float* x, std::int64_t count);
  // The same with memory of the device, which may still be at work when this returns.
  void run_on_device(float* y, const float* x, std::int64_t count);

 private:
  std::unique_ptr<Backend> backend_;  // before what it made: destroyed after it
  std::int64_t max_rows_;
  DecoderSpec spec_;
  LinearPtr weights_;
  KvCachePtr kv_;
  Activations a_;
  StoragePtr x_, y_;
  std::vector<std::int32_t> zeros_, no_slots_;
};

}  // namespace rocmforge
