// The vocabulary of gpu.hpp for nvcc.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "include/launch.hpp"

#define RF_DEVICE __device__ __forceinline__
// Before loops whose arrays have to become registers.
#define RF_UNROLL _Pragma("unroll")
#define RF_SHARED(type, name, n) __shared__ type name[n]

// Before loops whose steps are to share registers.
#define RF_NO_UNROLL _Pragma("unroll 1")

// With registers for 512 threads of a multiprocessor at least: as many as AMD's devices have.
#define RF_KERNEL_W32(name, Args, threads, call)                            \
  extern "C" __global__ __launch_bounds__(                                  \
      threads, 512 / (threads)) void name(const __grid_constant__ Args a) { \
    call(a);                                                                \
  }
#define RF_KERNEL_W64(name, Args, threads, call)
#define RF_KERNEL_LARGE_W32 RF_KERNEL_W32
#define RF_KERNEL_LARGE_W64 RF_KERNEL_W64
#define RF_KERNEL_HUGE_W32(name, Args, threads, call)                                          \
  extern "C" __global__ __launch_bounds__(threads) void name(const __grid_constant__ Args a) { \
    call(a);                                                                                   \
  }
#define RF_KERNEL_HUGE_W64(name, Args, threads, call)

namespace rocmforge::gpu {

RF_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
RF_DEVICE int block_x() { return static_cast<int>(blockIdx.x); }
RF_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
RF_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }
RF_DEVICE void barrier() { __syncthreads(); }
RF_DEVICE void join_lanes() { __syncwarp(); }

// Cumulative: what the block wrote before a barrier counts as this thread's, and what this thread
// may see so may all threads behind the next barrier. No fence of every thread is needed.
RF_DEVICE std::uint32_t count_arrival(std::uint32_t* counter) {
  std::uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
               : "=r"(before)
               : "l"(counter)
               : "memory");
  return before;
}
RF_DEVICE void publish() {}
RF_DEVICE void receive() {}

template <int kWave, int kMask, class T>
RF_DEVICE T shuffle_xor(T v) {
  static_assert(sizeof(T) == 4 && kWave == 32 && kMask < kWave);
  return __shfl_xor_sync(0xffffffffu, v, kMask, kWave);
}

// c + the products of the four signed bytes of a and b.
RF_DEVICE int dot4(std::uint32_t a, std::uint32_t b, int c) {
  return __dp4a(static_cast<int>(a), static_cast<int>(b), c);
}

// Byte i is byte (selectors >> 8 i & 7) of the eight bytes of low, then high.
RF_DEVICE std::uint32_t select_bytes(std::uint32_t low, std::uint32_t high,
                                     std::uint32_t selectors) {
  // __byte_perm wants the selectors in the four low nibbles.
  const std::uint32_t pairs = (selectors | selectors >> 4) & 0x00ff00ffu;
  return __byte_perm(low, high, (pairs | pairs >> 8) & 0xffffu);
}

struct alignas(16) Words4 {
  std::uint32_t v[4];
};

RF_DEVICE Words4 load16(const void* p) {
  const uint4 v = *static_cast<const uint4*>(p);
  return {{v.x, v.y, v.z, v.w}};
}

RF_DEVICE void store16(void* p, const Words4& w) {
  *static_cast<uint4*>(p) = make_uint4(w.v[0], w.v[1], w.v[2], w.v[3]);
}

// N words from an address of any alignment that is at least kAlign. Below 4 from the aligned words
// around it, of which none is read that has no byte of them.
template <int N, int kAlign>
RF_DEVICE void load_words(std::uint32_t* words, const void* p) {
  if constexpr (kAlign >= 16 && N % 4 == 0) {
    for (int i = 0; i < N; i += 4) {
      const uint4 v = static_cast<const uint4*>(p)[i / 4];
      words[i] = v.x, words[i + 1] = v.y, words[i + 2] = v.z, words[i + 3] = v.w;
    }
  } else if constexpr (kAlign >= 8 && N % 2 == 0) {
    for (int i = 0; i < N; i += 2) {
      const uint2 v = static_cast<const uint2*>(p)[i / 2];
      words[i] = v.x, words[i + 1] = v.y;
    }
  } else if constexpr (kAlign >= 4) {
    for (int i = 0; i < N; ++i) words[i] = static_cast<const std::uint32_t*>(p)[i];
  } else {
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    const auto* aligned = reinterpret_cast<const std::uint32_t*>(address & ~std::uintptr_t{3});
    const unsigned shift = static_cast<unsigned>(address & 3) * 8;
    std::uint32_t low = aligned[0];
    for (int i = 0; i < N; ++i) {
      const std::uint32_t high = i + 1 < N || shift ? aligned[i + 1] : 0;
      words[i] = __funnelshift_r(low, high, shift);
      low = high;
    }
  }
}

// 16 bytes from global to shared memory without a register; zeros unless `inside`. end_copies()
// ends a group; after finish_copies<N>() all groups but the last N are there for the thread, after
// a barrier for the block.
constexpr int kCopiesAhead = 2;  // groups that may be on their way at once
struct AsyncCopy {
  RF_DEVICE void start(void* to, const void* from, bool inside) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(inside ? 16 : 0)
                 : "memory");
  }
  RF_DEVICE void finish(void*) const {}
};
RF_DEVICE void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kGroups>
RF_DEVICE void finish_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}
// The low word of the two after a shift to the right.
RF_DEVICE std::uint32_t funnel_right(std::uint32_t low, std::uint32_t high, int shift) {
  return __funnelshift_r(low, high, shift);
}
// Loads of 16 bytes need aligned addresses.
constexpr bool kUnalignedLoads = false;

RF_DEVICE float half_to_float(std::uint16_t h) { return __half2float(__ushort_as_half(h)); }

// The four signed bytes of a word. As mantissas of 2^23 + 128 + byte: a fourth of the time that
// conversions take.
RF_DEVICE void bytes_to_floats(float* f, std::uint32_t bytes) {
  const std::uint32_t raised = bytes ^ 0x80808080u;
  for (unsigned i = 0; i < 4; ++i)
    f[i] = __uint_as_float(__byte_perm(raised, 0x4b000000u, 0x7650u + i)) - 8388736.0f;
}

// The four bytes of a word, below 128 each, plus kCodeBase: one instruction each, as the mantissas
// of 128 + byte.
constexpr int kCodeBase = 128;
RF_DEVICE void codes_to_floats(float* f, std::uint32_t bytes) {
  for (unsigned i = 0; i < 4; ++i)
    f[i] = __uint_as_float(__byte_perm(bytes, 0x43000000u, 0x7044u + (i << 8)));
}

// Both rounded to bf16, to nearest and even; `low` in the low half.
RF_DEVICE std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// As pack_bf16.
RF_DEVICE std::uint32_t pack_f16(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// 2^x, of at least 22 bits.
RF_DEVICE float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

RF_DEVICE int uniform(int v) { return v; }

RF_DEVICE unsigned opaque(unsigned v) { return v; }

RF_DEVICE void scheduling_fence() { asm volatile("" ::: "memory"); }

// e^x to a few units in the last place of 1 + |x|.
RF_DEVICE float fast_exp(float x) { return __expf(x); }
RF_DEVICE float exp(float x) { return ::expf(x); }
RF_DEVICE float sqrt(float x) { return ::sqrtf(x); }
RF_DEVICE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
RF_DEVICE double fma(double a, double b, double c) { return ::fma(a, b, c); }
RF_DEVICE float round_to_even(float x) { return ::rintf(x); }
RF_DEVICE double round_to_even(double x) { return ::rint(x); }

}  // namespace rocmforge::gpu
