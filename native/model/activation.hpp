// What a feed-forward network does to its inner values.
#pragma once

#include <cstdint>

namespace rocmforge {

// Gated ones take gate and up, side by side; the others one matrix.
enum class Activation : std::int32_t {
  kSiluGated,  // silu(gate) * up
  kGeluGated,  // gelu(gate) * up, gelu by tanh
  kOaiGated,   // gpt-oss: g sigmoid(1.702 g) (u + 1), g = min(gate, 7), u = clamp(up, -7, 7)
  kGelu,
  kReluSquared,
};
constexpr int kNumActivations = 5;
constexpr bool is_gated(Activation a) {
  return a != Activation::kGelu && a != Activation::kReluSquared;
}

}  // namespace rocmforge
