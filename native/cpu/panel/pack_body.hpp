// Rows of a file into panels (layout.hpp): plain loops for the compiler of the including ISA unit
// to vectorise. A panel is written once, front to back.
#pragma once

#include <cstdint>

#include "cpu/kernels.hpp"
#include "cpu/panel/layout.hpp"

namespace rocmforge::cpu {
namespace {

inline void nibbles(std::uint8_t* to, const std::uint8_t* qs) {
  for (int i = 0; i < 16; ++i) to[i] = qs[i] & 15;
  for (int i = 0; i < 16; ++i) to[16 + i] = qs[i] >> 4;
}

inline void add_fifth_bits(std::uint8_t* to, const std::uint8_t* qh) {
  for (int i = 0; i < 32; ++i) to[i] |= static_cast<std::uint8_t>((qh[i / 8] >> i % 8 & 1) << 4);
}

// The codes of a block, one a byte, in the order of its weights.
inline void codes(std::uint8_t* to, const quant::BlockQ4_0& b) { nibbles(to, b.qs); }
inline void codes(std::uint8_t* to, const quant::BlockQ4_1& b) { nibbles(to, b.qs); }
inline void codes(std::uint8_t* to, const quant::BlockIQ4_NL& b) { nibbles(to, b.qs); }
inline void codes(std::uint8_t* to, const quant::BlockMXFP4& b) { nibbles(to, b.qs); }
inline void codes(std::uint8_t* to, const quant::BlockQ5_0& b) {
  nibbles(to, b.qs);
  add_fifth_bits(to, b.qh);
}
inline void codes(std::uint8_t* to, const quant::BlockQ5_1& b) {
  nibbles(to, b.qs);
  add_fifth_bits(to, b.qh);
}
inline void codes(std::uint8_t* to, const quant::BlockQ8_0& b) {
  for (int i = 0; i < 32; ++i) to[i] = static_cast<std::uint8_t>(b.qs[i] ^ 0x80);
}
inline void codes(std::uint8_t* to, const quant::BlockQ2_K& b) {
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 32; ++i) to[128 * half + 32 * j + i] = b.qs[32 * half + i] >> 2 * j & 3;
}
inline void codes(std::uint8_t* to, const quant::BlockQ3_K& b) {
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 32; ++i)
        to[128 * half + 32 * j + i] = static_cast<std::uint8_t>(
            (b.qs[32 * half + i] >> 2 * j & 3) | (b.hmask[i] >> (4 * half + j) & 1) << 2);
}
inline void codes(std::uint8_t* to, const quant::BlockQ4_K& b) {
  for (int quarter = 0; quarter < 4; ++quarter) {
    for (int i = 0; i < 32; ++i) to[64 * quarter + i] = b.qs[32 * quarter + i] & 15;
    for (int i = 0; i < 32; ++i) to[64 * quarter + 32 + i] = b.qs[32 * quarter + i] >> 4;
  }
}
inline void codes(std::uint8_t* to, const quant::BlockQ5_K& b) {
  for (int part = 0; part < 8; ++part)
    for (int i = 0; i < 32; ++i)
      to[32 * part + i] = static_cast<std::uint8_t>(
          (b.qs[32 * (part / 2) + i] >> part % 2 * 4 & 15) | (b.qh[i] >> part & 1) << 4);
}
inline void codes(std::uint8_t* to, const quant::BlockQ6_K& b) {
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 32; ++i)
        to[128 * half + 32 * j + i] =
            static_cast<std::uint8_t>((b.ql[64 * half + j % 2 * 32 + i] >> j / 2 * 4 & 15) |
                                      (b.qh[32 * half + i] >> 2 * j & 3) << 4);
}
inline void codes(std::uint8_t* to, const quant::BlockIQ4_XS& b) {
  for (int i = 0; i < 8; ++i) nibbles(to + 32 * i, b.qs + 16 * i);
}

// A step's groups, [8][64], as planes.
template <class P>
inline void write_planes(std::uint8_t* to, const std::uint8_t (&groups)[8][64]) {
  constexpr int kMask = (1 << P::kLowBits) - 1;
  constexpr int kPerPlane = 8 / P::kLowBits;
  for (int plane = 0; plane < 8 / kPerPlane; ++plane, to += 64) {
    for (int i = 0; i < 64; ++i) {
      int byte = 0;
      for (int j = 0; j < kPerPlane; ++j)
        byte |= (groups[plane * kPerPlane + j][i] & kMask) << P::kLowBits * j;
      to[i] = static_cast<std::uint8_t>(byte);
    }
  }
  if constexpr (P::kHighBits > 0) {
    constexpr int kHighPerPlane = 8 / P::kHighBits;
    for (int plane = 0; plane < P::kHighBits; ++plane, to += 64) {
      for (int i = 0; i < 64; ++i) {
        int byte = 0;
        for (int j = 0; j < kHighPerPlane; ++j)
          byte |= groups[plane * kHighPerPlane + j][i] >> P::kLowBits << P::kHighBits * j;
        to[i] = static_cast<std::uint8_t>(byte);
      }
    }
  }
}

inline void put_half(std::uint8_t* to, std::int64_t row, std::uint16_t half) {
  __builtin_memcpy(to + 2 * row, &half, 2);
}

template <class P, class Block>
inline void write_scales(std::uint8_t* to, const Block& b, int step, std::int64_t row) {
  if constexpr (P::kScales == PanelScales::kE8M0) {
    to[row] = b.e;
  } else if constexpr (!P::kHasHeader) {
    put_half(to, row, b.d);
    if constexpr (P::kHasMin) put_half(to + 2 * kPanelRows, row, b.m);
  } else {
    for (int i = 0; i < P::kNumScales; ++i) {
      const int group = 2 * step + i;  // of sixteen weights
      const int scale = quant::group_scale(b, group);
      if constexpr (P::kScales == PanelScales::kNibbles)
        to[i * kPanelRows + row] =
            static_cast<std::uint8_t>(scale | quant::group_min(b, group) << 4);
      else
        to[i * kPanelRows + row] = static_cast<std::uint8_t>(scale);
      if constexpr (P::kScales == PanelScales::kBytes)
        to[(P::kNumScales + i) * kPanelRows + row] =
            static_cast<std::uint8_t>(quant::group_min(b, group));
    }
  }
}

// Rows 0 .. rows - 1 (at most 16) from `w` on, row_bytes apart.
template <class Block>
void pack_panel(void* panel, const void* w, std::int64_t row_bytes, std::int64_t k,
                std::int64_t rows) {
  using P = PanelOf<Block>;
  constexpr std::int64_t kWeights = quant::BlockTraits<Block>::kWeights;
  auto* to = static_cast<std::uint8_t*>(panel);
  for (std::int64_t at = 0; at < k; at += kPanelChunk) {
    const std::int64_t steps = smaller(kPanelChunk, k - at) / kPanelStep;
    std::uint8_t* const step_bytes = to + P::kHeaderBytes;
    alignas(64) std::uint8_t bytes[kPanelRows][kPanelChunk] = {};
    __builtin_memset(to, 0, static_cast<std::size_t>(P::kHeaderBytes + steps * P::kStepBytes));
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto* blocks =
          reinterpret_cast<const Block*>(static_cast<const char*>(w) + row * row_bytes) +
          at / kWeights;
      if constexpr (P::kHasHeader) {
        put_half(to, row, blocks->d);
        if constexpr (P::kHasMin) put_half(to + 2 * kPanelRows, row, blocks->dmin);
      }
      for (std::int64_t i = 0; i < steps * kPanelStep / kWeights; ++i)
        codes(bytes[row] + i * kWeights, blocks[i]);
      for (std::int64_t step = 0; step < steps; ++step)
        write_scales<P>(step_bytes + step * P::kStepBytes + P::kScalesAt,
                        blocks[step * kPanelStep / kWeights], static_cast<int>(step), row);
    }
    for (std::int64_t step = 0; step < steps; ++step) {
      alignas(64) std::uint8_t groups[8][64];
      for (std::int64_t row = 0; row < kPanelRows; ++row)
        for (int g = 0; g < 8; ++g)
          __builtin_memcpy(groups[g] + 4 * row, bytes[row] + kPanelStep * step + 4 * g, 4);
      write_planes<P>(step_bytes + step * P::kStepBytes, groups);
    }
    to += P::kChunkBytes;
  }
}

template <class Block>
void pack_float_panel(void* panel, const void* w, std::int64_t row_bytes, std::int64_t k,
                      std::int64_t rows) {
  auto* to = static_cast<Block*>(panel);
  const std::int64_t padded = PanelOf<Block>::bytes(k) / (kPanelRows * sizeof(Block));
  for (std::int64_t begin = 0; begin < padded; begin += kPanelStep) {  // a step of cache lines
    const std::int64_t end = begin + kPanelStep;
    for (std::int64_t row = 0; row < kPanelRows; ++row) {
      const auto* from =
          reinterpret_cast<const Block*>(static_cast<const char*>(w) + row * row_bytes);
      for (std::int64_t i = begin; i < end; ++i)
        to[i * kPanelRows + row] = row < rows && i < k ? from[i] : Block{};
    }
  }
}

template <class Block>
void install_packing(PanelFns& fns, quant::Format format) {
  const auto i = static_cast<int>(format);
  fns.bytes[i] = PanelOf<Block>::bytes;
  if constexpr (PanelOf<Block>::kIsFloat)
    fns.pack[i] = pack_float_panel<Block>;
  else
    fns.pack[i] = pack_panel<Block>;
}

inline void install_packing(PanelFns& fns) {
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  install_packing<quant::Block>(fns, quant::Format::k##name);
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace
}  // namespace rocmforge::cpu
