// Four neighbouring values of a row of n floats a thread, loaded and stored at once where the row
// is 16-byte aligned, which all rows are if n % 4 == 0.
#pragma once

#include "include/gpu.hpp"

namespace rocmforge::gpu {

// At a multiple of 16 bytes.
RF_DEVICE void load_four(float (&v)[4], const float* p) {
  const Words4 words = load16(p);
  RF_UNROLL
  for (int j = 0; j < 4; ++j) v[j] = quant::float_of_bits(words.v[j]);
}

RF_DEVICE void store_four(float* p, const float* v) {
  Words4 words;
  RF_UNROLL
  for (int j = 0; j < 4; ++j) words.v[j] = quant::bits_of_float(v[j]);
  store16(p, words);
}

// Values beyond the row are 0.
RF_DEVICE void load_four(float* v, const float* row, int i, int n) {
  if (n % 4 == 0) {
    const Words4 words = load16(row + i);
    for (int j = 0; j < 4; ++j) v[j] = quant::float_of_bits(words.v[j]);
  } else {
    for (int j = 0; j < 4; ++j) v[j] = i + j < n ? row[i + j] : 0.0f;
  }
}

RF_DEVICE void store_four(float* row, const float* v, int i, int n) {
  if (n % 4 == 0) {
    Words4 words;
    for (int j = 0; j < 4; ++j) words.v[j] = quant::bits_of_float(v[j]);
    store16(row + i, words);
  } else {
    for (int j = 0; j < 4; ++j)
      if (i + j < n) row[i + j] = v[j];
  }
}

}  // namespace rocmforge::gpu
