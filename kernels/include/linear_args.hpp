// Which row and columns of a LinearArgs a wave computes.
#pragma once

#include "include/decode_row.hpp"
#include "include/gpu.hpp"

namespace rocmforge::gpu {

template <int kWave, int kColumns>
struct LinearRow {
  bool any;  // whether there is anything to do; the rest is set only then
  int index;
  int first_column, num_columns;
  const void* weights;
  const char* columns[kColumns];

  RF_DEVICE explicit LinearRow(const LinearArgs& a) {
    index = block_x() * (kThreads / kWave) + thread_index() / kWave;
    first_column = block_y() * kColumns;
    num_columns = *a.num_columns;
    any = index < a.rows && first_column < num_columns;
    if (!any) return;
    // Columns beyond the last are computed as the last and not stored.
    std::int64_t matrix = 0;
    for (int c = 0; c < kColumns; ++c) {
      const int column = column_index(c);
      const std::int64_t x_row = a.column_row ? a.column_row[column] : column;
      columns[c] = static_cast<const char*>(offset_bytes(a.x, x_row * a.x_stride));
      if constexpr (kColumns == 1)
        if (a.column_matrix) matrix = a.column_matrix[column];
    }
    weights = offset_bytes(a.w, matrix * a.matrix_bytes + index * a.row_bytes);
  }

  RF_DEVICE int column_index(int c) const {
    return first_column + c < num_columns ? first_column + c : num_columns - 1;
  }

  // The sums of the wave's lanes.
  RF_DEVICE void store(const LinearArgs& a, const float (&sums)[kColumns]) const {
    for (int c = 0; c < kColumns; ++c) {
      const float total = wave_sum<kWave>(sums[c]);
      if (thread_index() % kWave == 0 && first_column + c < num_columns)
        a.y[std::int64_t{first_column + c} * a.y_stride + index] = total;
    }
  }
};

}  // namespace rocmforge::gpu
