// Sums of products of bf16 or f16 tiles on the matrix cores: D[16][16] += A[16][16] B[16][16]^T in
// float32, A and B by rows whose 16 values of the shared dimension lie side by side. RF_HAS_MMA
// says that the target has them; the others run kernels that do without.
//
// A wave holds tiles in the registers of its lanes, and no two vendors in the same way. Kernels see
// the way of the target through
//   MmaOperand<kWave>               an A or a B
//   load_operand<kWave>(at)         one from shared memory; at(row, half) is the 16-byte aligned
//                                   address of values 8 * half .. 8 * half + 7 of a row
//   MmaSums<kWave>                  a D: v[i] of a lane is D[row][column] of
//   MmaMap<kWave>::row(lane, i), column(lane, i)
//   MmaMap<kWave>::slot(i)          v[i] and v[j] of a lane are of one row if their slots are
//   equal;
//                                   kSlots of them, kRowLanes neighbouring lanes share their rows
//   multiply_add<Type>(sums, a, b)  Type Bf16 or F16; every lane of the wave must take part
//   operand_of<kWave, Type>(d, scratch) D, rounded, as an A; the wave's scratch is 512 bytes
//   MmaShare<kWave>                for operands made of 16 values of each row that lie elsewhere
//   for
//                                   every lane, in 16 / kValues steps: kRows rows of a lane, which
//                                   kLanes lanes share, a lane as number(lane); word(row, value) is
//                                   where in a tile of 16 rows by 16 values load(tile, step) has
//                                   it, operand(words, step) takes words[r][0..7], 16 values of row
//                                   r
// Which of the shared dimension's values a lane holds is nobody's business: A and B agree in it.
//
// Neighbouring elements of a D row lie in neighbouring lanes or in one lane on every target, so
// what a kernel stores side by side should be the rows of B.
#pragma once

#include "include/gpu.hpp"

namespace rocmforge::gpu {

constexpr int kMmaSize = 16;  // in all three dimensions

struct Bf16 {
  RF_DEVICE static std::uint32_t pack(float low, float high) { return pack_bf16(low, high); }
  RF_DEVICE static float from(std::uint16_t bits) { return quant::bf16_to_float(bits); }
};
struct F16 {
  RF_DEVICE static std::uint32_t pack(float low, float high) { return pack_f16(low, high); }
  RF_DEVICE static float from(std::uint16_t bits) { return half_to_float(bits); }
};

template <int kWave>
struct MmaSums {
  static constexpr int kCount = kMmaSize * kMmaSize / kWave;
  float v[kCount];
};

}  // namespace rocmforge::gpu

#if defined(RF_GPU_HOST)
#include "include/mma_host.hpp"
#elif defined(__CUDACC__)
#include "include/mma_nvidia.hpp"
#else
#include "include/mma_amd.hpp"
#endif

// A kernel that exists where RF_HAS_MMA does.
#if RF_HAS_MMA
#define RF_MMA_KERNEL_VARIANT(...) RF_KERNEL_VARIANT(__VA_ARGS__)
#else
#define RF_MMA_KERNEL_VARIANT(...)
#endif
