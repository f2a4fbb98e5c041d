// bf16 tiles in shared memory for matrix products: rows of kDepth values in pieces of 16 bytes, put
// so that neither the eight rows that meet in one access of an operand nor the pieces of the
// threads that fill a row fall into the same banks.
#pragma once

#include "include/chunks.hpp"
#include "include/mma.hpp"

namespace rocmforge::gpu {

template <int kRowCount, int kDepth>
struct MmaTile {
  static constexpr int kPieces = kDepth / 8;  // of a row
  static_assert(kPieces == 4 || (kPieces % 8 == 0 && 512 % kDepth == 0));
  alignas(16) std::uint32_t words[kRowCount * kDepth / 2];

  RF_DEVICE std::uint32_t* at(int row, int piece) {
    const int spread = kPieces == 4 ? row / 2 % 4 : (row + piece / 8 * (512 / kDepth)) % 8;
    return words + (row * kPieces + (piece ^ spread)) * 4;
  }
#if RF_HAS_MMA
  // The operand of rows [row, row + 16) at depth [16 * step, 16 * step + 16).
  template <int kWave>
  RF_DEVICE MmaOperand<kWave> operand(int row, int step) {
    return load_operand<kWave>([&](int r, int half) { return at(row + r, 2 * step + half); });
  }
#endif
};

// Whether all codes of a format lie in -64..63: those without mins are signed then, others are not.
template <class Block>
constexpr bool kSmallCodes = true;
template <>
inline constexpr bool kSmallCodes<quant::BlockQ8_0> = false;
template <>
inline constexpr bool kSmallCodes<quant::BlockIQ4_NL> = false;
template <>
inline constexpr bool kSmallCodes<quant::BlockIQ4_XS> = false;

// The 16 weights of a piece of a chunk as bf16: eight words. Small codes are multiplied as
// base + code, the product with the base, which float32 holds, being taken off with the min.
template <class Block>
RF_DEVICE void round_piece(std::uint32_t* words, const typename Chunks<Block>::Type& chunk, int p) {
  constexpr bool kMins =
      sizeof(typename Chunks<Block>::Type) > sizeof(Chunk<Chunks<Block>::kPieces, false>);
  constexpr bool kSmall = kSmallCodes<Block>;
  const float scale = chunk.scale[p];
  const float base = static_cast<float>(kSmall ? kCodeBase + (kMins ? 0 : 64) : 0);
  const float offset = kMins ? -fma(base, scale, chunk.min[kMins ? p : 0]) : -base * scale;
  RF_UNROLL
  for (int i = 0; i < 4; ++i) {
    float w[4];
    if constexpr (kSmall)
      codes_to_floats(w, kMins ? chunk.q[p][i] : (chunk.q[p][i] ^ 0x40404040u) & 0x7f7f7f7fu);
    else
      bytes_to_floats(w, chunk.q[p][i]);
    RF_UNROLL
    for (int j = 0; j < 4; ++j) w[j] = fma(w[j], scale, offset);
    words[2 * i] = pack_bf16(w[0], w[1]);
    words[2 * i + 1] = pack_bf16(w[2], w[3]);
  }
}

}  // namespace rocmforge::gpu
