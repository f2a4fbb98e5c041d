// mma.hpp for WMMA (gfx11, gfx12) and MFMA (gfx908 and later).
#pragma once

#pragma clang force_cuda_host_device begin
#include <type_traits>
#pragma clang force_cuda_host_device end

#include "include/mma.hpp"
#include "include/mma_maps.hpp"

#if defined(__GFX11__) || defined(__GFX12__) || (defined(__GFX9__) && !defined(__gfx906__))
#define RF_HAS_MMA 1

namespace rocmforge::gpu {

#if defined(__GFX12__)
template <int kWave>
using MmaMap = MmaMapGfx12;
#elif defined(__GFX11__)
template <int kWave>
using MmaMap = MmaMapGfx11;
#else
template <int kWave>
using MmaMap = MmaMapGfx9;
#endif

template <int kWave>
using MmaOperand = MappedOperand<MmaMap<kWave>>;
template <int kWave>
using MmaShare = MappedShare<MmaMap<kWave>>;

template <int kWave, class At>
RF_DEVICE MmaOperand<kWave> load_operand(At at) {
  MmaOperand<kWave> o;
  o.load(thread_index() % kWave, at);
  return o;
}

typedef float MmaFloats __attribute__((ext_vector_type(MmaMap<0>::kSlots)));
typedef short MmaShorts __attribute__((ext_vector_type(MmaMap<0>::kValues)));
typedef _Float16 MmaHalfs __attribute__((ext_vector_type(MmaMap<0>::kValues)));

RF_DEVICE MmaFloats multiply_add_vectors(Bf16, MmaShorts x, MmaShorts y, MmaFloats sums) {
#if defined(__GFX12__)
  return __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(x, y, sums);
#elif defined(__GFX11__)
  return __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(x, y, sums);
#elif defined(__gfx908__)
  // Half as deep: the lanes' first two values, then the others.
  sums = __builtin_amdgcn_mfma_f32_16x16x8bf16(x.xy, y.xy, sums, 0, 0, 0);
  return __builtin_amdgcn_mfma_f32_16x16x8bf16(x.zw, y.zw, sums, 0, 0, 0);
#else
  return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(x, y, sums, 0, 0, 0);
#endif
}

RF_DEVICE MmaFloats multiply_add_vectors(F16, MmaHalfs x, MmaHalfs y, MmaFloats sums) {
#if defined(__GFX12__)
  return __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12(x, y, sums);
#elif defined(__GFX11__)
  return __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(x, y, sums);
#else
  return __builtin_amdgcn_mfma_f32_16x16x16f16(x, y, sums, 0, 0, 0);
#endif
}

template <class Type, int kWave>
RF_DEVICE void multiply_add(MmaSums<kWave>& d, const MmaOperand<kWave>& a,
                            const MmaOperand<kWave>& b) {
  using Vector = std::conditional_t<std::is_same_v<Type, F16>, MmaHalfs, MmaShorts>;
  const MmaFloats result =
      multiply_add_vectors(Type{}, __builtin_bit_cast(Vector, a), __builtin_bit_cast(Vector, b),
                           __builtin_bit_cast(MmaFloats, d));
  d = __builtin_bit_cast(MmaSums<kWave>, result);
}

template <int kWave, class Type>
RF_DEVICE MmaOperand<kWave> operand_of(const MmaSums<kWave>& d, std::uint32_t* scratch) {
  return operand_through<kWave, MmaMap<kWave>, Type>(d, scratch);
}

}  // namespace rocmforge::gpu

#else
#define RF_HAS_MMA 0
#endif
