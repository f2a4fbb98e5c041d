// How keys and values of each cache type are read, over the Vec of the including ISA unit. Every
// conversion to float is exact, so it does not matter where or how often it is made.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/kernels.hpp"

namespace rocmforge::cpu {
namespace {

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

struct F32 : Plain<F32> {
  using Element = float;
  static constexpr KvType kType = KvType::kF32;
  static Vec load(const Element* p) { return Vec::load(p); }
  static float to_float(Element e) { return e; }
};

// A tile that has been converted into scratch memory.
struct Converted : F32 {
  static constexpr bool kCached = false;
};

}  // namespace
}  // namespace rocmforge::cpu
