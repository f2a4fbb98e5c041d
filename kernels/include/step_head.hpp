// A head of the projections on its way to attention: a group of D / 8 lanes has it, eight
// neighbouring dimensions each.
#pragma once

#include "include/kv_types.hpp"

namespace rocmforge::gpu {

RF_DEVICE void load_eight(float (&v)[8], const float* p) {
  const Words4 low = load16(p), high = load16(p + 4);
  RF_UNROLL
  for (int j = 0; j < 4; ++j) {
    v[j] = quant::float_of_bits(low.v[j]);
    v[4 + j] = quant::float_of_bits(high.v[j]);
  }
}

// Cosines and sines of a lane's dimensions: of its four pairs where they are interleaved, else of
// its eight elements in either half of the head.
template <int kDim>
struct StepAngles {
  bool any, interleaved, is_second;
  float cos[8], sin[8];

  RF_DEVICE StepAngles(const StepAttendArgs& a, int t) {
    constexpr int kLanes = kDim / 8;
    const int lane = thread_index() % kLanes;
    interleaved = a.interleaved != 0;
    is_second = !interleaved && lane >= kLanes / 2;
    const int first = interleaved ? lane * 4 : lane % (kLanes / 2) * 8;
    any = first < a.half;
    RF_UNROLL
    for (int j = 0; j < 8; ++j) cos[j] = sin[j] = 0.0f;
    if (!any) return;
    load_angles<0>(a, t, first);
    if (!interleaved) load_angles<4>(a, t, first);
  }

  template <int kAt>
  RF_DEVICE void load_angles(const StepAttendArgs& a, int t, int first) {
    const std::int64_t at = std::int64_t{t} * a.half + first + kAt;
    const Words4 cosines = load16(a.cos + at), sines = load16(a.sin + at);
    RF_UNROLL
    for (int n = 0; n < 4; ++n) {
      cos[kAt + n] = quant::float_of_bits(cosines.v[n]);
      sin[kAt + n] = quant::float_of_bits(sines.v[n]);
    }
  }

  // All lanes of the wave take part.
  template <int kWave>
  RF_DEVICE void rotate(float (&v)[8]) const {
    if (interleaved) {
      if (!any) return;
      RF_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float x = v[2 * i], y = v[2 * i + 1];
        v[2 * i] = x * cos[i] - y * sin[i];
        v[2 * i + 1] = x * sin[i] + y * cos[i];
      }
      return;
    }
    RF_UNROLL
    for (int j = 0; j < 8; ++j) {
      const float other = shuffle_xor<kWave, kDim / 16>(v[j]);
      if (any) v[j] = is_second ? other * sin[j] + v[j] * cos[j] : v[j] * cos[j] - other * sin[j];
    }
  }
};

// The norm of one head, if there is a weight.
template <int kWave, int kDim>
RF_DEVICE void norm_head(float (&v)[8], const float* weight, float eps) {
  if (!weight) return;
  float squares = 0.0f, w[8];
  RF_UNROLL
  for (int j = 0; j < 8; ++j) squares = fma(v[j], v[j], squares);
  squares = reduce_lanes<kWave, kDim / 8>(squares, Sum{});
  const float scale = 1.0f / sqrt(squares / static_cast<float>(kDim) + eps);
  load_eight(w, weight + thread_index() % (kDim / 8) * 8);
  RF_UNROLL
  for (int j = 0; j < 8; ++j) v[j] = v[j] * scale * w[j];
}

// Eight values as the cache keeps them, and what it gives back for them. The lanes of 32 values,
// four of them, share a scale where there is one.
template <int kWave, class Type>
struct CachedEight {
  typename Type::Element elements[8];
  std::uint16_t scale = 0;

  RF_DEVICE explicit CachedEight(float (&v)[8]) {
    if constexpr (Type::kScaled) {
      std::uint32_t highest = 0;  // as bits, so that a NaN is the highest
      RF_UNROLL
      for (int j = 0; j < 8; ++j) {
        const std::uint32_t bits = quant::bits_of_float(v[j]) & 0x7fffffffu;
        highest = highest < bits ? bits : highest;
      }
      highest = reduce_lanes<kWave, 4>(highest, Max{});
      scale = quant::float_to_half(quant::float_of_bits(highest) / 127.0f);
      const float d = half_to_float(scale), inverse = d > 0.0f ? 1.0f / d : 0.0f;
      RF_UNROLL
      for (int j = 0; j < 8; ++j) {
        float q = v[j] * inverse;
        q = q < 127.0f ? q : 127.0f;
        q = q > -127.0f ? q : -127.0f;
        elements[j] = static_cast<std::int8_t>(round_to_even(q));
        v[j] = static_cast<float>(elements[j]) * d;
      }
    } else {
      RF_UNROLL
      for (int j = 0; j < 8; ++j) {
        elements[j] = Type::to(v[j]);
        v[j] = Type::from(elements[j]);
      }
    }
  }

  RF_DEVICE void store(const KvRow<Type>& row, int dim) const {
    auto* to = const_cast<typename Type::Element*>(row.values) + dim;
    RF_UNROLL
    for (int j = 0; j < 8; ++j) to[j] = elements[j];
    if constexpr (Type::kScaled)
      if (dim % 32 == 0) const_cast<std::uint16_t*>(row.scales)[dim / 32] = scale;
  }
};

// Eight neighbouring values of a row of the cache, still as they are there.
template <class Type>
struct KvEight {
  static constexpr int kWords = 8 * sizeof(typename Type::Element) / 4;
  std::uint32_t words[kWords];
  std::uint16_t scale;

  RF_DEVICE void load(const KvRow<Type>& row, int dim) {
    load_words<kWords, kWords >= 4 ? 16 : 8>(words, row.values + dim);
    if constexpr (Type::kScaled) scale = row.scales[dim / 32];
  }
  RF_DEVICE float value(int j) const {
    if constexpr (sizeof(typename Type::Element) == 4) {
      return quant::float_of_bits(words[j]);
    } else if constexpr (sizeof(typename Type::Element) == 2) {
      return Type::from(static_cast<std::uint16_t>(words[j / 2] >> (j % 2 * 16)));
    } else {
      return static_cast<float>(static_cast<std::int8_t>(words[j / 4] >> (j % 4 * 8))) *
             half_to_float(scale);
    }
  }
};

}  // namespace rocmforge::gpu
