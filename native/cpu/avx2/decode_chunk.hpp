// Any format's weights as float32, equal to quant::decode bit by bit. The AVX-512 unit uses this
// too.
#pragma once

#include "cpu/avx2/unpack_256.hpp"

namespace rocmforge::cpu {
namespace {

template <class Block>
constexpr std::int64_t kChunkBytes =
    kChunk / quant::BlockTraits<Block>::kWeights * static_cast<std::int64_t>(sizeof(Block));

// The n <= 256 weights of the chunk at w; n is a whole number of blocks.
inline void decode_chunk(float* y, const quant::BlockF32* w, std::int64_t n) {
  __builtin_memcpy(y, w, static_cast<std::size_t>(n) * sizeof(float));
}

inline void decode_chunk(float* y, const quant::BlockF16* w, std::int64_t n) {
  const std::int64_t whole = n / 8 * 8;
  for (std::int64_t j = 0; j < whole; j += 8)
    _mm256_storeu_ps(y + j, _mm256_cvtph_ps(load128(w + j)));
  for (std::int64_t j = whole; j < n; ++j) y[j] = _cvtsh_ss(w[j].value);
}

inline void decode_chunk(float* y, const quant::BlockBF16* w, std::int64_t n) {
  const std::int64_t whole = n / 8 * 8;
  for (std::int64_t j = 0; j < whole; j += 8)
    store256(y + j, _mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(w + j)), 16));
  for (std::int64_t j = whole; j < n; ++j) y[j] = quant::decode(w[j], 0);
}

template <class Block>
inline void decode_chunk(float* y, const Block* w, std::int64_t n) {
  if constexpr (requires { group_scale(*w, 0); }) {
    Unpacked256 p;
    unpack(p, *w);
    decode<Block>(y, p);
  } else {
    Unpacked32 p;
    unpack(p, w, n);
    decode<Block>(y, p, n);
  }
}

}  // namespace
}  // namespace rocmforge::cpu
