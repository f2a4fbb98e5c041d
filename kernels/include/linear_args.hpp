// Which row and columns of a LinearArgs a wave computes.
#pragma once

#include "include/decode_row.hpp"
#include "include/gpu.hpp"

namespace rocmforge::gpu {

template <int kWave, int kColumns>
struct LinearRow {
  int index;
  int first_column, num_columns;
  const void* weights;
  const char* columns[kColumns];

  // Whether there is anything to do.
  RF_DEVICE static bool exists(const LinearArgs& a) {
    return row_index() < a.rows && block_y() * kColumns < *a.num_columns;
  }
  RF_DEVICE static int row_index() {
    return block_x() * (kThreads / kWave) + uniform(thread_index() / kWave);
  }

  RF_DEVICE explicit LinearRow(const LinearArgs& a) {
    index = row_index();
    first_column = block_y() * kColumns;
    num_columns = uniform(*a.num_columns);
    // Columns beyond the last are computed as the last and not stored.
    std::int64_t matrix = 0;
    for (int c = 0; c < kColumns; ++c) {
      const int column = column_index(c);
      const std::int64_t x_row = a.column_row ? uniform(a.column_row[column]) : column;
      columns[c] = static_cast<const char*>(offset_bytes(a.x, x_row * a.x_stride));
      if constexpr (kColumns == 1)
        if (a.column_matrix) matrix = uniform(a.column_matrix[column]);
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
