// Any format's weights as float32, equal to quant::decode bit by bit. The AVX-512 unit uses this
// too.
#pragma once

#include "cpu/avx2/unpack_q8x256.hpp"

namespace rocmforge::cpu {
namespace {

// Weights [i, i + n) of the row at `row`: i is a multiple of 256, n at most 256.
inline void decode_chunk(float* y, const quant::BlockF32* row, std::int64_t i, std::int64_t n) {
  __builtin_memcpy(y, row + i, static_cast<std::size_t>(n) * sizeof(float));
}

inline void decode_chunk(float* y, const quant::BlockF16* row, std::int64_t i, std::int64_t n) {
  std::int64_t j = 0;
  for (; j + 8 <= n; j += 8) _mm256_storeu_ps(y + j, _mm256_cvtph_ps(load128(row + i + j)));
  for (; j < n; ++j) y[j] = _cvtsh_ss(row[i + j].value);
}

inline void decode_chunk(float* y, const quant::BlockBF16* row, std::int64_t i, std::int64_t n) {
  std::int64_t j = 0;
  for (; j + 8 <= n; j += 8)
    store256(y + j, _mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(row + i + j)), 16));
  for (; j < n; ++j) y[j] = quant::decode(row[i + j], 0);
}

template <class Block>
inline void decode_chunk(float* y, const Block* row, std::int64_t i, std::int64_t n) {
  if constexpr (requires { group_scale(*row, 0); }) {
    Panel256 p;
    unpack(p, row[i / 256]);
    decode<Block>(y, p);
  } else {
    Panel32 p;
    unpack(p, row + i / 32, n);
    decode<Block>(y, p, n);
  }
}

}  // namespace
}  // namespace rocmforge::cpu
