// The weight formats as an enum and a table of sizes; blocks.hpp has the layouts.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace rocmforge::quant {

// What a format's integer dot product wants its activations converted to.
enum class ActivationType : int { kFloat, kQ8x32 };
constexpr int kNumActivationTypes = 2;

enum class Format : int {
#define RF_FORMAT(name, id, weights, bytes, Block, activation) k##name,
#include "quant/formats.def"
#undef RF_FORMAT
  kCount
};
constexpr int kNumFormats = static_cast<int>(Format::kCount);

struct FormatInfo {
  std::string_view name;
  std::int32_t gguf_id;
  std::int32_t block_weights;
  std::int32_t block_bytes;
  ActivationType activation;
};

constexpr std::array<FormatInfo, kNumFormats> kFormats = {{
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  {#name, id, weights, bytes, ActivationType::activation},
#include "quant/formats.def"
#undef RF_FORMAT
}};

constexpr const FormatInfo& info(Format f) { return kFormats[static_cast<std::size_t>(f)]; }

// Bytes of one row of `k` weights, which is a whole number of blocks.
constexpr std::int64_t row_bytes(Format f, std::int64_t k) {
  return k / info(f).block_weights * info(f).block_bytes;
}

constexpr std::optional<Format> format_of_gguf_id(std::int32_t id) {
  for (int i = 0; i < kNumFormats; ++i)
    if (kFormats[static_cast<std::size_t>(i)].gguf_id == id) return static_cast<Format>(i);
  return std::nullopt;
}

}  // namespace rocmforge::quant
