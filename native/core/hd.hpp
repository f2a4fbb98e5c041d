// RF_HD marks the few functions shared by CPU and GPU translation units.
//
// They have internal linkage on purpose. An ordinary `inline` function is a weak symbol; if the
// copy the linker keeps came from a unit built with -mavx512f, baseline code would execute
// AVX-512 on a machine that lacks it.
#pragma once

#if defined(__HIPCC__) || defined(__CUDACC__)
#define RF_HD static __host__ __device__ __forceinline__
#else
#define RF_HD static inline __attribute__((always_inline))
#endif
