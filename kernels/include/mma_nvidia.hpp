// mma.hpp for sm_80 and later: mma.sync.m16n8k16 twice (PTX ISA, "Matrix Fragments for
// mma.m16n8k16"). ldmatrix deals the four 8 x 8 quarters of a tile to four registers in the order
// of both operands: of A as they are, of B columns 0..7 from the first and third.
#pragma once

#include <type_traits>

#include "include/mma.hpp"

#define RF_HAS_MMA 1

namespace rocmforge::gpu {

template <int kWave>
struct MmaMap {
  static constexpr int kSlots = 2, kRowLanes = 4;
  RF_DEVICE static constexpr int slot(int i) { return i % 4 / 2; }
  RF_DEVICE static int row(int lane, int i) { return lane / 4 + i % 4 / 2 * 8; }
  RF_DEVICE static int column(int lane, int i) { return i / 4 * 8 + lane % 4 * 2 + i % 2; }
};

template <int kWave>
struct MmaOperand {
  std::uint32_t v[4];
};

template <int kWave, class At>
RF_DEVICE MmaOperand<kWave> load_operand(At at) {
  const int lane = thread_index() % kWave;
  const auto address =
      static_cast<std::uint32_t>(__cvta_generic_to_shared(at(lane % 16, lane / 16)));
  MmaOperand<kWave> o;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(o.v[0]), "=r"(o.v[1]), "=r"(o.v[2]), "=r"(o.v[3])
               : "r"(address)
               : "memory");
  return o;
}

template <int kWave>
struct MmaShare {
  static constexpr int kRows = 2, kLanes = 4, kValues = 4;
  RF_DEVICE static int row(int lane, int r) { return lane / 4 + 8 * r; }
  RF_DEVICE static int number(int lane) { return lane % 4; }
  // Lanes that load at once have two rows of four tiles, which are neighbours, 2 or 4 apart: to be
  // in different banks then.
  RF_DEVICE static int spread(int tile) { return (tile + tile / 4) % 4 * 2; }
  RF_DEVICE static int word(int tile, int row, int value) {
    return (value / 4 * 8 + (row % 8 ^ spread(tile))) * 4 + value % 4 / 2 * 2 + row / 8;
  }
  template <class Words>
  RF_DEVICE static MmaOperand<kWave> operand(const Words& words, int step) {
    return {
        {words[0][2 * step], words[1][2 * step], words[0][2 * step + 1], words[1][2 * step + 1]}};
  }
  RF_DEVICE static MmaOperand<kWave> load(const std::uint32_t* words, int tile, int step) {
    const int row = thread_index() % kWave / 4 ^ spread(tile);
    const Words4 w = load16(words + (step * 8 + row) * 4);
    return {{w.v[0], w.v[1], w.v[2], w.v[3]}};
  }
};

#define RF_MMA_HALF(type)                                          \
  asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type       \
      ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])             \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))

template <class Type>
RF_DEVICE void multiply_add_half(float* d, const std::uint32_t* a, std::uint32_t b0,
                                 std::uint32_t b1) {
  if constexpr (std::is_same_v<Type, F16>)
    RF_MMA_HALF("f16");
  else
    RF_MMA_HALF("bf16");
}
#undef RF_MMA_HALF

template <class Type, int kWave>
RF_DEVICE void multiply_add(MmaSums<kWave>& d, const MmaOperand<kWave>& a,
                            const MmaOperand<kWave>& b) {
  multiply_add_half<Type>(d.v, a.v, b.v[0], b.v[2]);
  multiply_add_half<Type>(d.v + 4, a.v, b.v[1], b.v[3]);
}

// A lane's results are its values of the operand.
template <int kWave, class Type>
RF_DEVICE MmaOperand<kWave> operand_of(const MmaSums<kWave>& d, std::uint32_t*) {
  return {{Type::pack(d.v[0], d.v[1]), Type::pack(d.v[2], d.v[3]), Type::pack(d.v[4], d.v[5]),
           Type::pack(d.v[6], d.v[7])}};
}

}  // namespace rocmforge::gpu
