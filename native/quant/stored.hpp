// The formats of stored_formats.def by name: what a row takes, and its decode.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace rocmforge::quant {

struct StoredFormat {
  std::string_view name;
  std::int32_t gguf_id;
  std::int32_t block_weights;
  std::int32_t block_bytes;
  void (*decode)(float* y, const void* row, std::int64_t k);
};

std::span<const StoredFormat> stored_formats();

}  // namespace rocmforge::quant
