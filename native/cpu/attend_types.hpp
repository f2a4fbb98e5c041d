// How keys and values of each cache type are read, over the Vec of the including ISA unit. Every
// conversion to float is exact, so it does not matter where or how often it is made.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/kernels.hpp"

namespace rocmforge::cpu {
namespace {

// One group of kKvLanes positions, or the row of one position.
inline const std::byte* paged(const AttendArgs& a, const void* base, std::int64_t position,
                              std::int64_t row_bytes) {
  const std::int64_t block = a.block_table[position / a.block_size];
  return static_cast<const std::byte*>(base) + block / kKvChunkBlocks * a.chunk_bytes +
         (block % kKvChunkBlocks * a.block_size + position % a.block_size) * row_bytes;
}

// W vectors of keys of neighbouring positions, from `position` of a tile on. `groups` are the
// tile's interleaved groups of kKvLanes positions.
template <class Type, int W>
struct PlainKeys {
  using Element = typename Type::Element;
  const Element* lanes[W];

  PlainKeys(const std::byte* const* groups, std::int64_t position) {
    for (int w = 0; w < W; ++w) {
      const std::int64_t p = position + w * Vec::kWidth;
      lanes[w] = reinterpret_cast<const Element*>(groups[p / kKvLanes]) + p % kKvLanes;
    }
  }
  void enter(std::int64_t) {}  // called at every 32nd element
  Vec at(std::int64_t dim, int w) const { return Type::load(lanes[w] + dim * kKvLanes); }
};

template <class Type>
struct Plain {
  static constexpr bool kCached = true;
  template <int W>
  using Keys = PlainKeys<Type, W>;
  static Vec value(const std::byte* row, std::int64_t i) {
    return Type::load(reinterpret_cast<const typename Type::Element*>(row) + i);
  }
  static float one(const std::byte* row, std::int64_t i) {
    return Type::to_float(reinterpret_cast<const typename Type::Element*>(row)[i]);
  }
};

struct F16 : Plain<F16> {
  using Element = std::uint16_t;
  static constexpr KvType kType = KvType::kF16;
  static Vec load(const Element* p) { return Vec::load(p); }
  static float to_float(Element e) { return quant::half_to_float(e); }
};

struct Bf16 : Plain<Bf16> {
  using Element = std::uint16_t;
  static constexpr KvType kType = KvType::kBf16;
  static Vec load(const Element* p) { return Vec::load_bf16(p); }
  static float to_float(Element e) { return quant::bf16_to_float(e); }
};

struct F32 : Plain<F32> {
  using Element = float;
  static constexpr KvType kType = KvType::kF32;
  static Vec load(const Element* p) { return Vec::load(p); }
  static float to_float(Element e) { return e; }
};

// Rows of {float16 scale, 32 int8}. An interleaved group of kKvLanes rows has for every 32 elements
// the scales [kKvLanes], then the int8 [32][kKvLanes]. A product of 11 by 8 bits is exact.
struct Q8 {
  static constexpr KvType kType = KvType::kQ8_0;
  static constexpr bool kCached = true;
  static constexpr std::int64_t kValues = 32, kBytes = 34;

  template <int W>
  struct Keys {
    const std::byte* blocks[W];  // of the current 32 elements
    std::int64_t lane[W];
    const std::byte* groups[W];
    Vec scales[W];

    Keys(const std::byte* const* all, std::int64_t position) {
      for (int w = 0; w < W; ++w) {
        const std::int64_t p = position + w * Vec::kWidth;
        groups[w] = all[p / kKvLanes];
        lane[w] = p % kKvLanes;
      }
      enter(0);
    }
    void enter(std::int64_t dim) {
      for (int w = 0; w < W; ++w) {
        blocks[w] = groups[w] + dim / kValues * kBytes * kKvLanes;
        scales[w] = Vec::load(reinterpret_cast<const std::uint16_t*>(blocks[w]) + lane[w]);
      }
    }
    Vec at(std::int64_t dim, int w) const {
      const std::int64_t quant = 2 * kKvLanes + dim % kValues * kKvLanes + lane[w];
      return Vec::mul(Vec::load(reinterpret_cast<const std::int8_t*>(blocks[w] + quant)),
                      scales[w]);
    }
  };

  static Vec value(const std::byte* row, std::int64_t i) {
    const std::byte* block = row + i / kValues * kBytes;
    const auto* quants = reinterpret_cast<const std::int8_t*>(block + 2);
    return Vec::mul(Vec::load(quants + i % kValues),
                    Vec::set_half(reinterpret_cast<const std::uint16_t*>(block)));
  }
};

// A tile that has been converted into scratch memory.
struct Converted : F32 {
  static constexpr bool kCached = false;
};

}  // namespace
}  // namespace rocmforge::cpu
