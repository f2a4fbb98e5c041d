// Arguments of drawing tokens from rows of logits: native/cpu/sample.hpp says what is drawn, and
// the ids are those that the CPU draws, bit for bit. Included by args.hpp.
#pragma once

#include <cstdint>

namespace rocmforge::gpu {

// How one row is drawn.
struct SampleRow {
  std::uint64_t random;      // philox_bits()
  std::uint64_t min_weight;  // of 2^40; 0: off
  float inv_temperature;     // 0: the most probable token
  float top_p;               // >= 1: off
  std::int32_t top_k;        // 0: off
};

// rf_sample_top: the largest logit of each row and of each of its blocks, and the ids of rows that
// take the most probable token. rf_sample_draw, after it: those of the other rows. An id is -1
// where a row allows no draw.
struct SampleArgs {
  std::int32_t* ids;        // [R]
  float* maxima;            // [R, ceil(n / kSampleBlock)]
  float* top;               // [R]
  std::uint64_t* sums;      // [R, slices] weights
  std::int32_t* blocks;     // [R, ceil(n / kSampleBlock)] those that hold candidates
  std::uint32_t* arrivals;  // [R], 0 before and after
  const SampleRow* rows;    // [R]
  const float* logits;      // [R, n]
  std::int32_t n;
};

constexpr int kSampleBlock = 64;    // logits that one maximum stands for
constexpr int kSampleSlice = 2048;  // logits of a block of the grid

}  // namespace rocmforge::gpu
