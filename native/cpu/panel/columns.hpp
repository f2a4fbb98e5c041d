// Columns of floats into the groups of panel/layout.hpp.
#pragma once

#include "cpu/panel/layout.hpp"

namespace rocmforge::cpu {
namespace {

// Calls put(values, offset of the group, chunk, its steps, place in the group, columns of the
// group) for every chunk of every column; values are null where there is no column.
template <class Put>
inline void for_columns(const PackColumnsArgs& a, std::int64_t steps, Put put) {
  const std::int64_t packed = packed_columns(a.num_cols, a.group);
  for (std::int64_t group = a.group_begin; group < a.group_end; ++group) {
    const std::int64_t first = group * a.group;
    const std::int64_t columns = smaller(a.group, packed - first);
    for (std::int64_t chunk = 0; chunk * kChunkSteps < steps; ++chunk) {
      const std::int64_t n = smaller(kChunkSteps, steps - chunk * kChunkSteps);
      const std::int64_t at = columns_offset(chunk, first, n, packed);
      for (std::int64_t c = 0; c < columns; ++c) {
        const float* x = nullptr;
        if (first + c < a.num_cols) {
          const std::int64_t row = a.source ? a.source[first + c] : first + c - a.x_first;
          x = a.x + row * a.x_stride + chunk * kPanelChunk;
        }
        put(x, at, chunk, n, c, columns);
      }
    }
  }
}

inline void pack_floats(const PackColumnsArgs& a) {
  auto* y = static_cast<float*>(a.y);
  for_columns(a, (a.k + kPanelStep - 1) / kPanelStep,
              [&](const float* x, std::int64_t at, std::int64_t chunk, std::int64_t n,
                  std::int64_t c, std::int64_t columns) {
                float* to = y + at * kPanelStep + c;
                const std::int64_t present =
                    x ? smaller(n * kPanelStep, a.k - chunk * kPanelChunk) : 0;
                for (std::int64_t i = 0; i < present; ++i) to[i * columns] = x[i];
                for (std::int64_t i = present; i < n * kPanelStep; ++i) to[i * columns] = 0.0f;
              });
}

template <QuantizeFn quantize>
void pack_quantized(const PackColumnsArgs& a) {
  auto* y = static_cast<quant::BlockQ8x32*>(a.y);
  for_columns(a, a.k / kPanelStep,
              [&](const float* x, std::int64_t at, std::int64_t, std::int64_t n, std::int64_t c,
                  std::int64_t columns) {
                if (x) return quantize(y + at + c, columns, x, n * kPanelStep);
                for (std::int64_t i = 0; i < n; ++i) y[at + c + i * columns] = {};
              });
}

}  // namespace
}  // namespace rocmforge::cpu
