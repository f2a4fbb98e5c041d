// mma.hpp for WMMA (gfx11, gfx12) and MFMA (gfx908 and later).
#pragma once

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

template <int kWave, class At>
RF_DEVICE MmaOperand<kWave> load_operand(At at) {
  MmaOperand<kWave> o;
  o.load(thread_index() % kWave, at);
  return o;
}

typedef float MmaFloats __attribute__((ext_vector_type(256 / (MmaMap<0>::kValues == 4 ? 64 : 32))));
typedef short MmaValues __attribute__((ext_vector_type(MmaMap<0>::kValues)));

template <int kWave>
RF_DEVICE void multiply_add(MmaSums<kWave>& d, const MmaOperand<kWave>& a,
                            const MmaOperand<kWave>& b) {
  const MmaFloats sums = __builtin_bit_cast(MmaFloats, d);
  const MmaValues x = __builtin_bit_cast(MmaValues, a), y = __builtin_bit_cast(MmaValues, b);
#if defined(__GFX12__)
  const MmaFloats result = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(x, y, sums);
#elif defined(__GFX11__)
  const MmaFloats result = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(x, y, sums);
#elif defined(__gfx908__)
  // Half as deep: the lanes' first two values, then the others.
  MmaFloats result = __builtin_amdgcn_mfma_f32_16x16x8bf16(x.xy, y.xy, sums, 0, 0, 0);
  result = __builtin_amdgcn_mfma_f32_16x16x8bf16(x.zw, y.zw, result, 0, 0, 0);
#else
  const MmaFloats result = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(x, y, sums, 0, 0, 0);
#endif
  d = __builtin_bit_cast(MmaSums<kWave>, result);
}

}  // namespace rocmforge::gpu

#else
#define RF_HAS_MMA 0
#endif
