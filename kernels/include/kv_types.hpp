// The element types of a KV cache: how a row (one position of one head) is written and read. Every
// conversion to float is exact.
#pragma once

#include "include/gpu.hpp"
#include "quant/small_floats.hpp"

namespace rocmforge::gpu {

struct KvF32 {
  using Element = float;
  static constexpr bool kScaled = false;
  RF_DEVICE static Element to(float x) { return x; }
  RF_DEVICE static float from(Element e) { return e; }
};

struct KvF16 {
  using Element = std::uint16_t;
  static constexpr bool kScaled = false;
  RF_DEVICE static Element to(float x) { return quant::float_to_half(x); }
  RF_DEVICE static float from(Element e) { return half_to_float(e); }
};

struct KvBf16 {
  using Element = std::uint16_t;
  static constexpr bool kScaled = false;
  RF_DEVICE static Element to(float x) { return quant::float_to_bf16(x); }
  RF_DEVICE static float from(Element e) { return quant::bf16_to_float(e); }
};

// A value is its int8 times the float16 scale of its 32.
struct KvQ8 {
  using Element = std::int8_t;
  static constexpr bool kScaled = true;
  RF_DEVICE static float from(Element e) { return static_cast<float>(e); }
};

// One row of keys or values in the cache.
template <class Type>
struct KvRow {
  const typename Type::Element* values;
  const std::uint16_t* scales;  // KvQ8 only

  // Four neighbouring values; i % 4 == 0.
  RF_DEVICE void load_four(float* v, int i) const {
    using Element = typename Type::Element;
    struct alignas(4 * sizeof(Element)) Four {
      Element e[4];
    };
    const Four four = *reinterpret_cast<const Four*>(values + i);
    for (int j = 0; j < 4; ++j) v[j] = Type::from(four.e[j]);
    if constexpr (Type::kScaled) {
      const float d = half_to_float(scales[i / 32]);
      for (int j = 0; j < 4; ++j) v[j] *= d;
    }
  }
  RF_DEVICE float load(int i) const {
    float v = Type::from(values[i]);
    if constexpr (Type::kScaled) v *= half_to_float(scales[i / 32]);
    return v;
  }
};

// The keys or the values of one block of the cache, of one KV head.
template <class Type>
struct KvHead {
  const char* values;
  const char* scales;
  int dim;

  RF_DEVICE KvRow<Type> row(int offset) const {
    KvRow<Type> r{};
    r.values = reinterpret_cast<const typename Type::Element*>(values) + offset * dim;
    if constexpr (Type::kScaled)
      r.scales = reinterpret_cast<const std::uint16_t*>(scales) + offset * (dim / 32);
    return r;
  }
};

template <class Type>
RF_DEVICE KvHead<Type> kv_keys(const char* block, const KvLayout& l, int head, int block_size,
                               int dim) {
  const std::int64_t first = std::int64_t{head} * block_size * dim;
  return {block + first * static_cast<int>(sizeof(typename Type::Element)),
          block + l.k_scales + first / 32 * 2, dim};
}

template <class Type>
RF_DEVICE KvHead<Type> kv_values(const char* block, const KvLayout& l, int head, int block_size,
                                 int dim) {
  const std::int64_t first = std::int64_t{head} * block_size * dim;
  return {block + l.v + first * static_cast<int>(sizeof(typename Type::Element)),
          block + l.v_scales + first / 32 * 2, dim};
}

}  // namespace rocmforge::gpu
