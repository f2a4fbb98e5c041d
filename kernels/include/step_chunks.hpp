// Chunks of weights for the fused products. A lane loads what a chunk is made of (Raw) long before
// it unpacks it, so that the loads of the next chunks are under way while one is multiplied; scales
// are multiplied as integers, and offsets of quants (-8, -16, -32) become one product with the sum
// of the activation's quants.
//
// StepChunk<Block> has kPerBlock chunks of kPieces pieces of 16 weights, piece p of chunk c from
// weight offset(c, p) on. load(source, c) reads one through source.words<N, kAlign>(words, offset)
// and source.half(offset), offsets in bytes from the block's begin.
#pragma once

#include "include/chunks.hpp"
#include "include/decode_row.hpp"

namespace rocmforge::gpu {

// The activations that meet one chunk.
template <class Chunk>
struct ChunkInput {
  static constexpr int kPieces = Chunk::kPieces;
  // Pieces are the halves of one group of 32, or of groups of their own.
  static constexpr bool kWhole = Chunk::offset(0, 1) == Chunk::offset(0, 0) + 16;
  static constexpr int kGroups = kWhole ? 1 : kPieces;
  static_assert(!kWhole || kPieces == 2);

  Words4 q[kPieces];
  std::uint32_t scales[kGroups][2];  // of Q8Scale

  RF_DEVICE void load(const char* x, unsigned k, unsigned position) {
    RF_UNROLL
    for (int p = 0; p < kPieces; ++p) q[p] = load16(x + (position + Chunk::offset(0, p)));
    const char* at = x + (k + position / 32 * sizeof(Q8Scale));
    RF_UNROLL
    for (int g = 0; g < kGroups; ++g)
      load_words<2, 8>(scales[g],
                       at + Chunk::offset(0, g) / 32 * static_cast<int>(sizeof(Q8Scale)));
  }

  RF_DEVICE float scale(int g) const { return quant::float_of_bits(scales[g][0]); }
  // Of the quants of a group, or of the half of it that is a piece; `position` as in load(), or
  // less a multiple of 32.
  RF_DEVICE int sum(int g, unsigned position) const {
    if (!kWhole) return static_cast<std::int16_t>(scales[g][1] >> (position & 16));
    return static_cast<std::int16_t>(scales[g][1]) + static_cast<std::int16_t>(scales[g][1] >> 16);
  }
  RF_DEVICE int dot(int p, const std::uint32_t* weights, int start) const {
    RF_UNROLL
    for (int i = 0; i < 4; ++i) start = dot4(weights[i], q[p].v[i], start);
    return start;
  }
};

template <class Block>
struct StepChunk;

// Blocks of 32 with one scale, 2-byte aligned: a block is a chunk. The quants are less by kOffset.
template <class Block, int kWords, int kOffset>
struct StepChunk32 {
  static constexpr int kPerBlock = 1, kPieces = 2;
  static constexpr bool kAligned = false;
  RF_DEVICE static constexpr int offset(int, int p) { return 16 * p; }
  using Input = StepChunk32;
  struct Raw {
    std::uint32_t d, w[kWords];
  };
  struct Type {
    std::uint32_t q[2][4];
    float d;
  };

  template <class Source>
  RF_DEVICE static Raw load(const Source& source, int) {
    Raw raw;
    raw.d = source.half(0);
    source.template words<kWords, 2>(raw.w, 2);
    return raw;
  }
  RF_DEVICE static void set(Type& c, const Raw& raw, const std::uint32_t* nibbles) {
    RF_UNROLL
    for (int i = 0; i < 4; ++i) {
      c.q[0][i] = low_nibbles(nibbles[i]);
      c.q[1][i] = high_nibbles(nibbles[i]);
    }
    c.d = half_to_float(static_cast<std::uint16_t>(raw.d));
  }
  RF_DEVICE static float times(const Type& c, const ChunkInput<StepChunk32>& x, unsigned) {
    const int dot = x.dot(0, c.q[0], x.dot(1, c.q[1], kOffset ? -kOffset * x.sum(0, 0) : 0));
    return static_cast<float>(dot) * (c.d * x.scale(0));
  }
};

template <>
struct StepChunk<quant::BlockQ4_0> : StepChunk32<quant::BlockQ4_0, 4, 8> {
  RF_DEVICE static Type unpack(const Raw& raw, int) {
    Type c;
    set(c, raw, raw.w);
    return c;
  }
};

template <>
struct StepChunk<quant::BlockQ5_0> : StepChunk32<quant::BlockQ5_0, 5, 16> {
  RF_DEVICE static Type unpack(const Raw& raw, int) {
    Type c;
    set(c, raw, raw.w + 1);
    add_fifth_bits(c, raw.w[0]);
    return c;
  }
};

template <>
struct StepChunk<quant::BlockQ8_0> : StepChunk32<quant::BlockQ8_0, 8, 0> {
  RF_DEVICE static Type unpack(const Raw& raw, int) {
    Type c;
    RF_UNROLL
    for (int i = 0; i < 8; ++i) c.q[i / 4][i % 4] = raw.w[i];
    c.d = half_to_float(static_cast<std::uint16_t>(raw.d));
    return c;
  }
};

// Q4_K and Q5_K in chunks of 32: sixteen bytes of nibbles are 16 weights of one group of 32 and 16
// of the next. Neighbouring lanes load neighbouring bytes.
struct StepChunkK {
  static constexpr int kPerBlock = 8, kPieces = 2;
  static constexpr bool kAligned = true;
  RF_DEVICE static constexpr int offset(int c, int p) { return c / 2 * 64 + c % 2 * 16 + 32 * p; }
  using Input = StepChunkK;
  struct Type {
    std::uint32_t q[2][4];
    float scale[2], min[2];  // without d and dmin: integers below 64
    float d, dmin;
  };

  // As Chunks64Adjacent's.
  RF_DEVICE static void set_scales(Type& c, const std::uint32_t* head, int chunk) {
    const bool low = chunk < 4;
    const int shift = chunk / 2 % 2 * 16;
    const std::uint32_t scales =
        low ? head[1] & 0x3f3f3f3fu : (head[3] & kLowNibbles) | (head[1] >> 2 & 0x30303030u);
    const std::uint32_t mins =
        low ? head[2] & 0x3f3f3f3fu : high_nibbles(head[3]) | (head[2] >> 2 & 0x30303030u);
    c.d = half_at(head, 0);
    c.dmin = half_at(head, 1);
    RF_UNROLL
    for (int p = 0; p < 2; ++p) {
      c.scale[p] = static_cast<float>(scales >> (shift + 8 * p) & 0xff);
      c.min[p] = static_cast<float>(mins >> (shift + 8 * p) & 0xff);
    }
  }
  RF_DEVICE static float times(const Type& c, const ChunkInput<StepChunkK>& x, unsigned position) {
    float product = 0.0f, min = 0.0f;
    RF_UNROLL
    for (int p = 0; p < 2; ++p) {
      product = fma(static_cast<float>(x.dot(p, c.q[p], 0)) * c.scale[p], x.scale(p), product);
      min = fma(c.min[p], static_cast<float>(x.sum(p, position)) * x.scale(p), min);
    }
    return fma(c.d, product, -(c.dmin * min));
  }
};

template <>
struct StepChunk<quant::BlockQ4_K> : StepChunkK {
  struct Raw {
    std::uint32_t head[4], w[4];
  };

  template <class Source>
  RF_DEVICE static Raw load(const Source& source, int chunk) {
    Raw raw;
    source.template words<4, 16>(raw.head, 0);
    source.template words<4, 16>(raw.w, 16 + 16 * chunk);
    return raw;
  }
  RF_DEVICE static Type unpack(const Raw& raw, int chunk) {
    Type c;
    RF_UNROLL
    for (int i = 0; i < 4; ++i) {
      c.q[0][i] = low_nibbles(raw.w[i]);
      c.q[1][i] = high_nibbles(raw.w[i]);
    }
    set_scales(c, raw.head, chunk);
    return c;
  }
};

template <>
struct StepChunk<quant::BlockQ5_K> : StepChunkK {
  struct Raw {
    std::uint32_t head[4], high[4], w[4];
  };

  template <class Source>
  RF_DEVICE static Raw load(const Source& source, int chunk) {
    Raw raw;
    source.template words<4, 16>(raw.head, 0);
    source.template words<4, 16>(raw.high, 16 + 16 * (chunk % 2));
    source.template words<4, 16>(raw.w, 48 + 16 * chunk);
    return raw;
  }
  RF_DEVICE static Type unpack(const Raw& raw, int chunk) {
    Type c;
    RF_UNROLL
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t bits = raw.high[i] >> (chunk / 2 * 2);
      c.q[0][i] = low_nibbles(raw.w[i]) | (bits & 0x01010101u) << 4;
      c.q[1][i] = high_nibbles(raw.w[i]) | (bits >> 1 & 0x01010101u) << 4;
    }
    set_scales(c, raw.head, chunk);
    return c;
  }
};

// Four pieces as Chunks<BlockQ6_K> has them.
template <>
struct StepChunk<quant::BlockQ6_K> {
  static constexpr int kPerBlock = 4, kPieces = 4;
  static constexpr bool kAligned = false;
  RF_DEVICE static constexpr int offset(int c, int p) { return c / 2 * 128 + c % 2 * 16 + 32 * p; }
  using Input = StepChunk;
  struct Raw {
    std::uint32_t d, first[4], second[4], high[4], scales[2];
  };
  struct Type {
    std::uint32_t q[4][4];
    int scale[4];
    float d;
  };

  template <class Source>
  RF_DEVICE static Raw load(const Source& source, int chunk) {
    const int half = chunk / 2, part = chunk % 2;
    Raw raw;
    source.template words<4, 2>(raw.first, 64 * half + 16 * part);
    source.template words<4, 2>(raw.second, 64 * half + 16 * part + 32);
    source.template words<4, 2>(raw.high, 128 + 32 * half + 16 * part);
    source.template words<2, 2>(raw.scales, 192 + 8 * half);
    raw.d = source.half(208);
    return raw;
  }
  RF_DEVICE static Type unpack(const Raw& raw, int chunk) {
    Type c;
    c.d = half_to_float(static_cast<std::uint16_t>(raw.d));
    RF_UNROLL
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t high = raw.high[i];
      c.q[0][i] = low_nibbles(raw.first[i]) | (high << 4 & 0x30303030u);
      c.q[1][i] = low_nibbles(raw.second[i]) | (high << 2 & 0x30303030u);
      c.q[2][i] = high_nibbles(raw.first[i]) | (high & 0x30303030u);
      c.q[3][i] = high_nibbles(raw.second[i]) | (high >> 2 & 0x30303030u);
    }
    RF_UNROLL
    for (int p = 0; p < 4; ++p)
      c.scale[p] = static_cast<std::int8_t>(raw.scales[p / 2] >> (p % 2 * 16 + 8 * (chunk % 2)));
    return c;
  }
  // Integers stay within 16 * 127 * 32 * 128 < 2^24.
  RF_DEVICE static float times(const Type& c, const ChunkInput<StepChunk>& x, unsigned position) {
    float product = 0.0f;
    RF_UNROLL
    for (int p = 0; p < 4; ++p) {
      const int dot = x.dot(p, c.q[p], -32 * x.sum(p, position));
      product = fma(static_cast<float>(dot * c.scale[p]), x.scale(p), product);
    }
    return product * c.d;
  }
};

}  // namespace rocmforge::gpu
