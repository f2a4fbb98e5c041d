// Rows of one weight format into another, on several threads.
#pragma once

#include <cstdint>

#include "core/thread_pool.hpp"
#include "quant/formats.hpp"

namespace rocmforge {

class Quantizer {
 public:
  explicit Quantizer(int num_threads) : pool_(num_threads) {}

  // `rows` rows of k weights each. `importance`: k values >= 0, or nullptr. Throws kModelFile where
  // a weight is NaN, or beyond what `to` can hold.
  void convert(void* out, quant::Format to, const void* in, quant::Format from, std::int64_t rows,
               std::int64_t k, const float* importance);

 private:
  ThreadPool pool_;
};

}  // namespace rocmforge
