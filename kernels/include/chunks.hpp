// Quantized weights as a lane of an integer product wants them: a chunk is what one lane unpacks at
// once, in pieces of 16 weights that share a scale (and a min) and lie side by side. Weight i of a
// piece is scale * q - min with q the signed byte i of its four words, rounded after each
// operation: the bits of quant/blocks.hpp's decode().
//
// Chunks<Block> has kPerBlock chunks of kPieces pieces; offset(c, p) is where in the block piece p
// of chunk c begins. load(b, c) is unpack(fetch(b, c), c): fetch has all of its loads, so that a
// kernel can have them in flight while it does something else.
#pragma once

#include "include/gpu.hpp"
#include "quant/blocks.hpp"

namespace rocmforge::gpu {

template <int kPieces, bool kMins>
struct Chunk {
  std::uint32_t q[kPieces][4];
  float scale[kPieces];
  float min[kMins ? kPieces : 1];
};

constexpr std::uint32_t kLowNibbles = 0x0f0f0f0fu;

RF_DEVICE std::uint32_t low_nibbles(std::uint32_t w) { return w & kLowNibbles; }
RF_DEVICE std::uint32_t high_nibbles(std::uint32_t w) { return w >> 4 & kLowNibbles; }

// Byte-wise x - n for bytes x < 128 and 0 <= n <= 128: the set high bit keeps borrows apart.
template <int n>
RF_DEVICE std::uint32_t subtract_bytes(std::uint32_t x) {
  return ((x | 0x80808080u) - n * 0x01010101u) ^ 0x80808080u;
}

// Bits 0..3 of `bits` as the lowest bits of four bytes.
RF_DEVICE std::uint32_t spread_bits(std::uint32_t bits) {
  return (bits & 15) * 0x00204081u & 0x01010101u;
}

RF_DEVICE float half_at(const std::uint32_t* words, int i) {
  return half_to_float(static_cast<std::uint16_t>(words[i / 2] >> (i % 2 * 16)));
}

// Sixteen signed bytes as a table for codes 0..15.
struct ByteTable {
  std::uint32_t words[4];

  RF_DEVICE std::uint32_t operator()(std::uint32_t codes) const {
    const std::uint32_t select = codes & 0x07070707u;
    const std::uint32_t low = select_bytes(words[0], words[1], select);
    const std::uint32_t high = select_bytes(words[2], words[3], select);
    const std::uint32_t mask = (codes >> 3 & 0x01010101u) * 0xffu;
    return (low & ~mask) | (high & mask);
  }
};

// Of a function that gives the value of a code.
template <int (*kValue)(int)>
RF_DEVICE constexpr ByteTable byte_table() {
  ByteTable t{};
  for (int i = 0; i < 16; ++i)
    t.words[i / 4] |= static_cast<std::uint32_t>(kValue(i) & 0xff) << (i % 4 * 8);
  return t;
}

template <class Block>
struct Chunks;

#define RF_LOAD_CHUNK(Block) \
  RF_DEVICE static Type load(const Block* b, int chunk) { return unpack(fetch(b, chunk), chunk); }

template <int N>
struct Words {
  std::uint32_t w[N];
};

template <int N, int kAlign>
RF_DEVICE Words<N> fetch_words(const void* p) {
  Words<N> words;
  load_words<N, kAlign>(words.w, p);
  return words;
}

struct NibblesAndScale {
  std::uint32_t w[4];
  std::uint16_t d;
};

// Formats of 32 weights: the block is one chunk of two pieces with one scale.
template <bool kMins>
struct Chunks32 {
  static constexpr int kPerBlock = 1, kPieces = 2;
  using Type = Chunk<2, kMins>;
  RF_DEVICE static constexpr int offset(int, int p) { return 16 * p; }
  RF_DEVICE static NibblesAndScale fetch_nibbles(const std::uint8_t* qs, std::uint16_t d) {
    NibblesAndScale raw;
    load_words<4, 2>(raw.w, qs);
    raw.d = d;
    return raw;
  }
  RF_DEVICE static void split_nibbles(Type& c, const std::uint32_t* words) {
    for (int i = 0; i < 4; ++i) {
      c.q[0][i] = low_nibbles(words[i]);
      c.q[1][i] = high_nibbles(words[i]);
    }
  }
  RF_DEVICE static void set_scale(Type& c, float d) { c.scale[0] = c.scale[1] = d; }
};

template <>
struct Chunks<quant::BlockQ4_0> : Chunks32<false> {
  using Raw = NibblesAndScale;
  RF_DEVICE static Raw fetch(const quant::BlockQ4_0* b, int) { return fetch_nibbles(b->qs, b->d); }
  RF_DEVICE static Type unpack(const Raw& raw, int) {
    Type c;
    split_nibbles(c, raw.w);
    for (auto& piece : c.q)
      for (auto& word : piece) word = subtract_bytes<8>(word);
    set_scale(c, half_to_float(raw.d));
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockQ4_0)
};

template <>
struct Chunks<quant::BlockQ4_1> : Chunks32<true> {
  using Raw = Words<5>;
  RF_DEVICE static Raw fetch(const quant::BlockQ4_1* b, int) { return fetch_words<5, 4>(b); }
  RF_DEVICE static Type unpack(const Raw& raw, int) {
    Type c;
    split_nibbles(c, raw.w + 1);
    set_scale(c, half_at(raw.w, 0));
    c.min[0] = c.min[1] = -half_at(raw.w, 1);
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockQ4_1)
};

// qh: bit i is bit 4 of weight i
template <class Type>
RF_DEVICE void add_fifth_bits(Type& c, std::uint32_t qh) {
  for (int p = 0; p < 2; ++p)
    for (int i = 0; i < 4; ++i) c.q[p][i] |= spread_bits(qh >> (16 * p + 4 * i)) << 4;
}

template <>
struct Chunks<quant::BlockQ5_0> : Chunks32<false> {
  struct Raw {
    Words<5> qs;  // behind the fifth bits
    std::uint16_t d;
  };
  RF_DEVICE static Raw fetch(const quant::BlockQ5_0* b, int) {
    return {fetch_words<5, 2>(b->qh), b->d};
  }
  RF_DEVICE static Type unpack(const Raw& raw, int) {
    Type c;
    split_nibbles(c, raw.qs.w + 1);
    add_fifth_bits(c, raw.qs.w[0]);
    for (auto& piece : c.q)
      for (auto& word : piece) word = subtract_bytes<16>(word);
    set_scale(c, half_to_float(raw.d));
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockQ5_0)
};

template <>
struct Chunks<quant::BlockQ5_1> : Chunks32<true> {
  using Raw = Words<6>;
  RF_DEVICE static Raw fetch(const quant::BlockQ5_1* b, int) { return fetch_words<6, 8>(b); }
  RF_DEVICE static Type unpack(const Raw& raw, int) {
    Type c;
    split_nibbles(c, raw.w + 2);
    add_fifth_bits(c, raw.w[1]);
    set_scale(c, half_at(raw.w, 0));
    c.min[0] = c.min[1] = -half_at(raw.w, 1);
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockQ5_1)
};

template <>
struct Chunks<quant::BlockQ8_0> : Chunks32<false> {
  struct Raw {
    Words<4> low, high;
    std::uint16_t d;
  };
  RF_DEVICE static Raw fetch(const quant::BlockQ8_0* b, int) {
    return {fetch_words<4, 2>(b->qs), fetch_words<4, 2>(b->qs + 16), b->d};
  }
  RF_DEVICE static Type unpack(const Raw& raw, int) {
    Type c;
    for (int i = 0; i < 4; ++i) {
      c.q[0][i] = raw.low.w[i];
      c.q[1][i] = raw.high.w[i];
    }
    set_scale(c, half_to_float(raw.d));
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockQ8_0)
};

template <class Table>
RF_DEVICE void look_up(Chunks32<false>::Type& c, Table table) {
  for (auto& piece : c.q)
    for (auto& word : piece) word = table(word);
}

template <>
struct Chunks<quant::BlockIQ4_NL> : Chunks32<false> {
  using Raw = NibblesAndScale;
  RF_DEVICE static Raw fetch(const quant::BlockIQ4_NL* b, int) {
    return fetch_nibbles(b->qs, b->d);
  }
  RF_DEVICE static Type unpack(const Raw& raw, int) {
    Type c;
    split_nibbles(c, raw.w);
    look_up(c, byte_table<quant::iq4_value>());
    set_scale(c, half_to_float(raw.d));
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockIQ4_NL)
};

template <>
struct Chunks<quant::BlockMXFP4> : Chunks32<false> {
  struct Raw {
    Words<4> qs;
    std::uint8_t e;
  };
  RF_DEVICE static Raw fetch(const quant::BlockMXFP4* b, int) {
    return {fetch_words<4, 1>(b->qs), b->e};
  }
  RF_DEVICE static Type unpack(const Raw& raw, int) {
    Type c;
    split_nibbles(c, raw.qs.w);
    look_up(c, byte_table<quant::e2m1_doubled>());
    set_scale(c, quant::e8m0_half_to_float(raw.e));
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockMXFP4)
};

// Eight runs of 32 weights, each as a block of that many.
template <>
struct Chunks<quant::BlockIQ4_XS> : Chunks32<false> {
  static constexpr int kPerBlock = 8;
  RF_DEVICE static constexpr int offset(int c, int p) { return 32 * c + 16 * p; }
  struct Raw {
    Words<2> head;
    Words<4> qs;
  };
  RF_DEVICE static Raw fetch(const quant::BlockIQ4_XS* b, int run) {
    return {fetch_words<2, 8>(b), fetch_words<4, 8>(b->qs + 16 * run)};
  }
  RF_DEVICE static Type unpack(const Raw& raw, int run) {
    const std::uint32_t* head = raw.head.w;
    Type c;
    split_nibbles(c, raw.qs.w);
    look_up(c, byte_table<quant::iq4_value>());
    const std::uint32_t low = head[1] >> (4 * run) & 15, high = head[0] >> (16 + 2 * run) & 3;
    set_scale(c, half_at(head, 0) * static_cast<float>(static_cast<int>(low | high << 4) - 32));
    return c;
  }
  RF_LOAD_CHUNK(quant::BlockIQ4_XS)
};

}  // namespace rocmforge::gpu

#include "include/chunks_k.hpp"

#undef RF_LOAD_CHUNK
