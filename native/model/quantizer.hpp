// Rows of one weight format into another, on several threads.
#pragma once

#include <cstdint>

#include "core/thread_pool.hpp"
#include "quant/formats.hpp"

namespace rocmforge {

// Rows to read, of a format of formats.def or stored_formats.def.
struct RowSource {
  std::int64_t block_weights;
  std::int64_t block_bytes;
  void (*decode)(float* y, const void* row, std::int64_t k);
};

class Quantizer {
 public:
  explicit Quantizer(int num_threads) : pool_(num_threads) {}

  // `rows` rows of k weights each. `importance`: k values >= 0, or nullptr. Throws kModelFile where
  // a weight is NaN, or beyond what `to` can hold.
  void convert(void* out, quant::Format to, const void* in, const RowSource& from,
               std::int64_t rows, std::int64_t k, const float* importance);

 private:
  ThreadPool pool_;
};

}  // namespace rocmforge
