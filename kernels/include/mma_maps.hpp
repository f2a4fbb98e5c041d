// How AMD's matrix instructions spread 16 x 16 tiles over a wave (AMD Matrix Instruction
// Calculator; "RDNA3 Instruction Set Architecture", 7.9; "RDNA4", 7.12; "AMD Instinct MI300 ISA",
// 7.1). Of operands: a lane holds kValues neighbouring values of row `lane % 16`, from
// first_value(lane) on. The emulation computes with these maps as the devices do.
#pragma once

#include "include/gpu.hpp"

namespace rocmforge::gpu {

// Waves of 32, gfx11: both halves of the wave hold all of a row.
struct MmaMapGfx11 {
  static constexpr int kValues = 16;
  RF_DEVICE static constexpr int first_value(int) { return 0; }
  RF_DEVICE static constexpr int row(int lane, int i) { return 2 * i + lane / 16; }
  RF_DEVICE static constexpr int column(int lane, int) { return lane % 16; }
};

// Waves of 32, gfx12.
struct MmaMapGfx12 {
  static constexpr int kValues = 8;
  RF_DEVICE static constexpr int first_value(int lane) { return lane / 16 * 8; }
  RF_DEVICE static constexpr int row(int lane, int i) { return lane / 16 * 8 + i; }
  RF_DEVICE static constexpr int column(int lane, int) { return lane % 16; }
};

// Waves of 64, v_mfma_f32_16x16x16.
struct MmaMapGfx9 {
  static constexpr int kValues = 4;
  RF_DEVICE static constexpr int first_value(int lane) { return lane / 16 * 4; }
  RF_DEVICE static constexpr int row(int lane, int i) { return lane / 16 * 4 + i; }
  RF_DEVICE static constexpr int column(int lane, int) { return lane % 16; }
};

// kValues bf16 values of a lane, two a word, from shared memory.
template <class Map>
struct MappedOperand {
  std::uint32_t v[Map::kValues / 2];

  template <class At>
  RF_DEVICE void load(int lane, At at) {
    const int row = lane % 16, first = Map::first_value(lane);
    if constexpr (Map::kValues >= 8) {
      for (int i = 0; i < Map::kValues / 8; ++i) {
        const Words4 words = load16(at(row, first / 8 + i));
        for (int j = 0; j < 4; ++j) v[4 * i + j] = words.v[j];
      }
    } else {
      const char* values = reinterpret_cast<const char*>(at(row, first / 8)) + first % 8 * 2;
      load_words<Map::kValues / 2, Map::kValues * 2>(v, values);
    }
  }
};

}  // namespace rocmforge::gpu
