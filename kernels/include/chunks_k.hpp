// Chunks of the K-quants: 64 weights, four a block of 256, or half of that. Included by chunks.hpp.
#pragma once

#include "include/chunks.hpp"

namespace rocmforge::gpu {

// Q4_K and Q5_K: 64 neighbouring weights; two pieces of low nibbles of 32 bytes, two of high ones.
struct Chunks64Adjacent {
  static constexpr int kPerBlock = 4, kPieces = 4;
  using Type = Chunk<4, true>;
  RF_DEVICE static constexpr int offset(int c, int p) { return 64 * c + 16 * p; }

  // head: d and dmin, then the twelve bytes of 6-bit scales and mins (blocks.hpp: scale_6bit).
  RF_DEVICE static void set_scales(Type& c, const std::uint32_t* head, int chunk) {
    const std::uint32_t low_scales = head[1] & 0x3f3f3f3fu, low_mins = head[2] & 0x3f3f3f3fu;
    const std::uint32_t high_scales = (head[3] & kLowNibbles) | (head[1] >> 2 & 0x30303030u);
    const std::uint32_t high_mins = high_nibbles(head[3]) | (head[2] >> 2 & 0x30303030u);
    const int shift = chunk % 2 * 16;
    const std::uint32_t scales = (chunk < 2 ? low_scales : high_scales) >> shift;
    const std::uint32_t mins = (chunk < 2 ? low_mins : high_mins) >> shift;
    const float d = half_at(head, 0), dmin = half_at(head, 1);
    c.scale[0] = c.scale[1] = d * static_cast<float>(scales & 0xff);
    c.scale[2] = c.scale[3] = d * static_cast<float>(scales >> 8 & 0xff);
    c.min[0] = c.min[1] = dmin * static_cast<float>(mins & 0xff);
    c.min[2] = c.min[3] = dmin * static_cast<float>(mins >> 8 & 0xff);
  }
  RF_DEVICE static void set_nibbles(Type& c, const std::uint32_t* w) {
    for (int i = 0; i < 8; ++i) {
      c.q[i / 4][i % 4] = low_nibbles(w[i]);
      c.q[2 + i / 4][i % 4] = high_nibbles(w[i]);
    }
  }
};

template <>
struct Chunks<quant::BlockQ4_K> : Chunks64Adjacent {
  struct Raw {
    Words<4> head;
    Words<8> qs;
  };
  RF_DEVICE static Raw fetch(const quant::BlockQ4_K* b, int chunk) {
    return {fetch_words<4, 16>(b), fetch_words<8, 16>(b->qs + 32 * chunk)};
  }
  RF_DEVICE static Type unpack(const Raw& raw, int chunk) {
    Type c;
    set_nibbles(c, raw.qs.w);
    set_scales(c, raw.head.w, chunk);
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockQ4_K)
};

template <>
struct Chunks<quant::BlockQ5_K> : Chunks64Adjacent {
  struct Raw {
    Words<4> head;
    Words<8> high, qs;
  };
  RF_DEVICE static Raw fetch(const quant::BlockQ5_K* b, int chunk) {
    return {fetch_words<4, 16>(b), fetch_words<8, 16>(b->qh),
            fetch_words<8, 16>(b->qs + 32 * chunk)};
  }
  RF_DEVICE static Type unpack(const Raw& raw, int chunk) {
    Type c;
    set_nibbles(c, raw.qs.w);
    for (int i = 0; i < 8; ++i) {
      const std::uint32_t bits = raw.high.w[i] >> (2 * chunk);
      c.q[i / 4][i % 4] |= (bits & 0x01010101u) << 4;
      c.q[2 + i / 4][i % 4] |= (bits >> 1 & 0x01010101u) << 4;
    }
    set_scales(c, raw.head.w, chunk);
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockQ5_K)
};

// Q2_K, Q3_K and Q6_K: chunk (half, part) has weights 16 part + 32 i of a half of 128, i = 0..3,
// which share bytes of 2-bit fields.
struct Chunks64Apart {
  static constexpr int kPerBlock = 4, kPieces = 4;
  using Type = Chunk<4, false>;
  RF_DEVICE static constexpr int offset(int c, int p) { return c / 2 * 128 + c % 2 * 16 + 32 * p; }
};

// Half a chunk at a time: with all four pieces and their mins, eight columns did not fit into the
// registers of gfx9.
template <>
struct Chunks<quant::BlockQ2_K> {
  static constexpr int kPerBlock = 8, kPieces = 2;
  using Type = Chunk<2, true>;
  RF_DEVICE static constexpr int offset(int c, int p) {
    return c / 4 * 128 + c / 2 % 2 * 64 + c % 2 * 16 + 32 * p;
  }
  struct Raw {
    Words<4> qs;
    Words<1> scales, head;
  };
  RF_DEVICE static Raw fetch(const quant::BlockQ2_K* b, int chunk) {
    const int half = chunk / 4, pair = chunk / 2 % 2, part = chunk % 2;
    return {fetch_words<4, 4>(b->qs + 32 * half + 16 * part),
            fetch_words<1, 4>(b->scales + 8 * half + 4 * pair),
            fetch_words<1, 4>(b->qs + sizeof b->qs)};
  }
  RF_DEVICE static Type unpack(const Raw& raw, int chunk) {
    const int pair = chunk / 2 % 2, part = chunk % 2;
    const float d = half_at(raw.head.w, 0), dmin = half_at(raw.head.w, 1);
    Type c;
    for (int p = 0; p < 2; ++p) {
      for (int i = 0; i < 4; ++i) c.q[p][i] = raw.qs.w[i] >> (4 * pair + 2 * p) & 0x03030303u;
      const std::uint32_t s = raw.scales.w[0] >> (16 * p + 8 * part);
      c.scale[p] = d * static_cast<float>(s & 15);
      c.min[p] = dmin * static_cast<float>(s >> 4 & 15);
    }
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockQ2_K)
};

template <>
struct Chunks<quant::BlockQ3_K> : Chunks64Apart {
  struct Raw {
    Words<4> qs, high;
    Words<3> scales;
    std::uint16_t d;
  };
  RF_DEVICE static Raw fetch(const quant::BlockQ3_K* b, int chunk) {
    const int half = chunk / 2, part = chunk % 2;
    return {fetch_words<4, 2>(b->qs + 32 * half + 16 * part),
            fetch_words<4, 2>(b->hmask + 16 * part), fetch_words<3, 2>(b->scales), b->d};
  }
  RF_DEVICE static Type unpack(const Raw& raw, int chunk) {
    const int half = chunk / 2, part = chunk % 2;
    const std::uint32_t *w = raw.qs.w, *high = raw.high.w, *scales = raw.scales.w;
    const float d = half_to_float(raw.d);
    Type c;
    for (int p = 0; p < 4; ++p) {
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t bit = high[i] >> (4 * half + p) & 0x01010101u;
        c.q[p][i] = subtract_bytes<4>((w[i] >> (2 * p) & 0x03030303u) | bit << 2);
      }
      // Group 8 half + 2 p + part; the byte of its low nibble is 2 p + part.
      const int byte = 8 * (2 * (p % 2) + part);
      const std::uint32_t low = scales[p / 2] >> (byte + 4 * half) & 15;
      const std::uint32_t top = scales[2] >> (byte + 4 * half + 2 * (p / 2)) & 3;
      c.scale[p] = d * static_cast<float>(static_cast<int>(low | top << 4) - 32);
    }
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockQ3_K)
};

template <>
struct Chunks<quant::BlockQ6_K> : Chunks64Apart {
  struct Raw {
    Words<4> first, second, high;
    Words<2> scales;
    std::uint16_t d;
  };
  RF_DEVICE static Raw fetch(const quant::BlockQ6_K* b, int chunk) {
    const int half = chunk / 2, part = chunk % 2;
    const std::uint8_t* low = b->ql + 64 * half + 16 * part;
    return {fetch_words<4, 2>(low), fetch_words<4, 2>(low + 32),
            fetch_words<4, 2>(b->qh + 32 * half + 16 * part),
            fetch_words<2, 2>(b->scales + 8 * half), b->d};
  }
  RF_DEVICE static Type unpack(const Raw& raw, int chunk) {
    const int part = chunk % 2;
    const std::uint32_t *first = raw.first.w, *second = raw.second.w;
    const std::uint32_t *high = raw.high.w, *scales = raw.scales.w;
    const float d = half_to_float(raw.d);
    Type c;
    for (int i = 0; i < 4; ++i) {
      c.q[0][i] = low_nibbles(first[i]) | (high[i] << 4 & 0x30303030u);
      c.q[1][i] = low_nibbles(second[i]) | (high[i] << 2 & 0x30303030u);
      c.q[2][i] = high_nibbles(first[i]) | (high[i] & 0x30303030u);
      c.q[3][i] = high_nibbles(second[i]) | (high[i] >> 2 & 0x30303030u);
    }
    for (int p = 0; p < 4; ++p) {
      for (auto& word : c.q[p]) word = subtract_bytes<32>(word);
      const auto s = static_cast<std::int8_t>(scales[p / 2] >> (p % 2 * 16 + 8 * part));
      c.scale[p] = d * static_cast<float>(s);
    }
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockQ6_K)
};

}  // namespace rocmforge::gpu
