// What kernels are written in: one vocabulary over three compilers. The files chosen here hold
// everything that is a vendor's: amd.hpp (clang, no HIP headers needed), nvidia.hpp (nvcc),
// host.hpp (any C++20 compiler, with RF_GPU_HOST defined; host/ executes it).
//
// Each of them provides
//   RF_DEVICE                      for functions called by kernels
//   RF_SHARED(type, name, n)       an array shared by the block
//   RF_UNROLL                      before a loop: its indices of registers must become constants
//   RF_KERNEL_W32, RF_KERNEL_W64   (name, Args, threads, call): the entry point, of the wave sizes
//                                  it builds
//   thread_index(), block_x/y/z(), barrier()
//   count_arrival(counter)         adds one for all blocks to see and returns what was there
//   before;
//                                  publish() and receive() by all threads around it, see
//                                  arrival.hpp
//   shuffle_xor<kWave, kMask>(v)   of 32-bit values; every lane of the wave must take part
//   dot4, select_bytes, load16, store16, load_words, half_to_float, bytes_to_floats,
//   codes_to_floats, pack_bf16, exp, sqrt, fma, round_to_even, uniform, opaque, scheduling_fence,
//   AsyncCopy, end_copies, finish_copies
// Matrix cores: mma.hpp.
#pragma once

#if defined(RF_GPU_HOST)
#include "include/host.hpp"
#elif defined(__CUDACC__)
#include "include/nvidia.hpp"
#else
#include "include/amd.hpp"
#endif
#if !defined(__CUDACC__)
#include "include/register_copy.hpp"
#endif

#include "include/args.hpp"
#include "include/launch.hpp"
#include "include/wave.hpp"
#include "quant/small_floats.hpp"

// Both wave sizes where the compiler builds both.
#define RF_KERNEL_WAVES(operation, Args, function)                                  \
  RF_KERNEL_W32(rf_##operation##_w32, Args, rocmforge::gpu::kThreads, function<32>) \
  RF_KERNEL_W64(rf_##operation##_w64, Args, rocmforge::gpu::kThreads, function<64>)
// With more template arguments after the wave size.
#define RF_KERNEL_VARIANT(operation, variant, Args, function, ...) \
  RF_KERNEL_BLOCK(operation, variant, Args, rocmforge::gpu::kThreads, function, __VA_ARGS__)
// With another number of threads a block.
#define RF_KERNEL_BLOCK(operation, variant, Args, threads, function, ...)                     \
  RF_KERNEL_W32(rf_##operation##_##variant##_w32, Args, threads, (function<32, __VA_ARGS__>)) \
  RF_KERNEL_W64(rf_##operation##_##variant##_w64, Args, threads, (function<64, __VA_ARGS__>))

// For kernels that keep tiles of results in registers: few waves with many registers each. A huge
// one has a multiprocessor for itself.
#define RF_KERNEL_LARGE_VARIANT(operation, variant, Args, function, ...)                \
  RF_KERNEL_LARGE_W32(rf_##operation##_##variant##_w32, Args, rocmforge::gpu::kThreads, \
                      (function<32, __VA_ARGS__>))                                      \
  RF_KERNEL_LARGE_W64(rf_##operation##_##variant##_w64, Args, rocmforge::gpu::kThreads, \
                      (function<64, __VA_ARGS__>))
#define RF_KERNEL_HUGE_VARIANT(operation, variant, Args, function, ...)                \
  RF_KERNEL_HUGE_W32(rf_##operation##_##variant##_w32, Args, rocmforge::gpu::kThreads, \
                     (function<32, __VA_ARGS__>))                                      \
  RF_KERNEL_HUGE_W64(rf_##operation##_##variant##_w64, Args, rocmforge::gpu::kThreads, \
                     (function<64, __VA_ARGS__>))

// What tools/check_kernels.py demands of kernels whose operation and variant match the pattern (the
// first one of a file that does): at most so many vector registers, and the presence of dot4
// (integer dot products) and load16 (16-byte loads from global memory).
#define RF_EXPECT(pattern, vgprs, ...)
