// How AMD's matrix instructions spread 16 x 16 tiles over a wave (AMD Matrix Instruction
// Calculator; "RDNA3 Instruction Set Architecture", 7.9; "RDNA4", 7.12; "AMD Instinct MI300 ISA",
// 7.1). Of operands: a lane holds kValues neighbouring values of row `lane % 16`, from
// first_value(lane) on. The emulation computes with these maps as the devices do.
#pragma once

#include "include/gpu.hpp"

namespace rocmforge::gpu {

// Waves of 32, gfx11: both halves of the wave hold all of a row.
struct MmaMapGfx11 {
  static constexpr int kValues = 16, kSlots = 8, kRowLanes = 16;
  RF_DEVICE static constexpr int slot(int i) { return i; }
  RF_DEVICE static constexpr int first_value(int) { return 0; }
  RF_DEVICE static constexpr int row(int lane, int i) { return 2 * i + lane / 16; }
  RF_DEVICE static constexpr int column(int lane, int) { return lane % 16; }
};

// Waves of 32, gfx12.
struct MmaMapGfx12 {
  static constexpr int kValues = 8, kSlots = 8, kRowLanes = 16;
  RF_DEVICE static constexpr int slot(int i) { return i; }
  RF_DEVICE static constexpr int first_value(int lane) { return lane / 16 * 8; }
  RF_DEVICE static constexpr int row(int lane, int i) { return lane / 16 * 8 + i; }
  RF_DEVICE static constexpr int column(int lane, int) { return lane % 16; }
};

// Waves of 64, v_mfma_f32_16x16x16.
struct MmaMapGfx9 {
  static constexpr int kValues = 4, kSlots = 4, kRowLanes = 16;
  RF_DEVICE static constexpr int slot(int i) { return i; }
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

// MmaShare of these maps: of a tile what is loaded at once lies together.
template <class Map>
struct MappedShare {
  static constexpr int kRows = 1, kValues = Map::kValues, kLanes = 16 / kValues;
  static constexpr int kWords = kValues / 2;
  RF_DEVICE static int row(int lane, int) { return lane % 16; }
  RF_DEVICE static int number(int lane) { return Map::first_value(lane) / kValues; }
  RF_DEVICE static int word(int, int row, int value) {
    return (value / kValues * 16 + row) * kWords + value % kValues / 2;
  }
  template <class Words>
  RF_DEVICE static MappedOperand<Map> operand(const Words& words, int step) {
    MappedOperand<Map> o;
    RF_UNROLL
    for (int i = 0; i < kWords; ++i) o.v[i] = words[0][step * kWords + i];
    return o;
  }
  RF_DEVICE static MappedOperand<Map> load(const std::uint32_t* words, int, int step) {
    MappedOperand<Map> o;
    const std::uint32_t* from = words + (step * 16 + thread_index() % 16) * kWords;
    load_words<kWords, kWords * 4 < 16 ? kWords * 4 : 16>(o.v, from);
    return o;
  }
};

// By way of shared memory: lanes hold columns of D, and rows of an operand.
template <int kWave, class Map, class Type, class Sums>
RF_DEVICE MappedOperand<Map> operand_through(const Sums& d, std::uint32_t* scratch) {
  const int lane = thread_index() % kWave;
  auto* values = reinterpret_cast<std::uint16_t*>(scratch);
  wave_barrier<kWave>();  // the last operand has been read
  RF_UNROLL
  for (int i = 0; i < Map::kSlots; ++i)
    values[Map::row(lane, i) * 16 + Map::column(lane, i)] =
        static_cast<std::uint16_t>(Type::pack(d.v[i], 0.0f));
  wave_barrier<kWave>();
  MappedOperand<Map> o;
  o.load(lane, [&](int row, int half) { return scratch + row * 8 + half * 4; });
  return o;
}

}  // namespace rocmforge::gpu
