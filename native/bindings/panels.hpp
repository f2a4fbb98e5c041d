// Rows of raw blocks as panels, for the bindings of single kernels.
#pragma once

#include <algorithm>

#include "core/buffer.hpp"
#include "cpu/kernels.hpp"

namespace rocmforge::bindings {

inline Buffer pack_panels(const cpu::Kernels& k, quant::Format format, const std::uint8_t* w,
                          std::int64_t row_bytes, std::int64_t cols, std::int64_t rows) {
  const auto f = static_cast<int>(format);
  const std::int64_t panels = cpu::num_panels(rows), bytes = k.panels.bytes[f](cols);
  Buffer packed(static_cast<std::size_t>(panels * bytes));
  for (std::int64_t p = 0; p < panels; ++p)
    k.panels.pack[f](static_cast<std::byte*>(packed.data()) + p * bytes,
                     w + p * cpu::kPanelRows * row_bytes, row_bytes, cols,
                     std::min(cpu::kPanelRows, rows - p * cpu::kPanelRows));
  return packed;
}

}  // namespace rocmforge::bindings
