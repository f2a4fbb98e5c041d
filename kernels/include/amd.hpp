// The vocabulary of gpu.hpp for clang's AMD targets, from its builtins alone: neither HIP headers
// nor device libraries are needed.
#pragma once

#pragma clang force_cuda_host_device begin
#include <cstdint>
#include <cstring>
#pragma clang force_cuda_host_device end

#define __host__ __attribute__((host))
#define __device__ __attribute__((device))
#undef __forceinline__
#define __forceinline__ inline __attribute__((always_inline))
#ifndef __HIPCC__
#define __HIPCC__ 1
#endif

#include "include/launch.hpp"
#include "quant/small_floats.hpp"

#define RF_DEVICE inline __attribute__((device, always_inline))
// Before loops whose arrays have to become registers.
#define RF_UNROLL _Pragma("unroll")
#define RF_SHARED(type, name, n) __attribute__((device, shared)) static type name[n]

// Before loops whose steps are to share registers.
#define RF_NO_UNROLL _Pragma("unroll 1")

// The size of the block is what lets a thread have its share of the registers.
#define RF_KERNEL_WITH(attributes, name, Args, threads, call)                                \
  extern "C"                                                                                 \
      __attribute__((global, amdgpu_flat_work_group_size(threads, threads))) attributes void \
      name(const Args a) {                                                                   \
    call(a);                                                                                 \
  }
#define RF_KERNEL(name, Args, threads, call) RF_KERNEL_WITH(, name, Args, threads, call)
#define RF_KERNEL_LARGE(name, Args, threads, call) \
  RF_KERNEL_WITH(__attribute__((amdgpu_waves_per_eu(1, 2))), name, Args, threads, call)
#define RF_NO_KERNEL(name, Args, threads, call)
#if defined(__GFX9__)
#define RF_KERNEL_W32 RF_NO_KERNEL
#define RF_KERNEL_W64 RF_KERNEL
#define RF_KERNEL_LARGE_W32 RF_NO_KERNEL
#define RF_KERNEL_LARGE_W64 RF_KERNEL_LARGE
#else
#define RF_KERNEL_W32 RF_KERNEL
#define RF_KERNEL_W64 RF_NO_KERNEL
#define RF_KERNEL_LARGE_W32 RF_KERNEL_LARGE
#define RF_KERNEL_LARGE_W64 RF_NO_KERNEL
#endif
#define RF_KERNEL_HUGE_W32 RF_KERNEL_LARGE_W32
#define RF_KERNEL_HUGE_W64 RF_KERNEL_LARGE_W64

namespace rocmforge::gpu {

RF_DEVICE int thread_index() { return static_cast<int>(__builtin_amdgcn_workitem_id_x()); }
RF_DEVICE int block_x() { return static_cast<int>(__builtin_amdgcn_workgroup_id_x()); }
RF_DEVICE int block_y() { return static_cast<int>(__builtin_amdgcn_workgroup_id_y()); }
RF_DEVICE int block_z() { return static_cast<int>(__builtin_amdgcn_workgroup_id_z()); }

RF_DEVICE void barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

RF_DEVICE void join_lanes() {
  __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
  __builtin_amdgcn_wave_barrier();
}

// See gpu.hpp. A wave's fence covers its own stores alone: every wave publishes and receives.
RF_DEVICE std::uint32_t count_arrival(std::uint32_t* counter) {
  return __hip_atomic_fetch_add(counter, 1u, __ATOMIC_ACQ_REL, __HIP_MEMORY_SCOPE_AGENT);
}
RF_DEVICE void publish() { __builtin_amdgcn_fence(__ATOMIC_RELEASE, "agent"); }
RF_DEVICE void receive() { __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "agent"); }

template <int kWave, int kMask>
RF_DEVICE int shuffle_xor_bits(int v) {
  if constexpr (kMask == 32) {
    return __builtin_amdgcn_ds_bpermute((thread_index() ^ kMask) % kWave * 4, v);
  } else {
    constexpr int kSwizzle = kMask << 10 | 0x1f;  // lane ^ kMask within 32 lanes
#if defined(__GFX9__)
    if constexpr (kMask == 1) return __builtin_amdgcn_mov_dpp(v, 0xb1, 0xf, 0xf, true);
    if constexpr (kMask == 2) return __builtin_amdgcn_mov_dpp(v, 0x4e, 0xf, 0xf, true);
#else
    if constexpr (kMask < 16) return __builtin_amdgcn_mov_dpp(v, 0x160 | kMask, 0xf, 0xf, true);
#endif
    return __builtin_amdgcn_ds_swizzle(v, kSwizzle);
  }
}

template <int kWave, int kMask, class T>
RF_DEVICE T shuffle_xor(T v) {
  static_assert(sizeof(T) == 4 && kMask < kWave);
  return __builtin_bit_cast(T, shuffle_xor_bits<kWave, kMask>(__builtin_bit_cast(int, v)));
}

// c + the products of the four signed bytes of a and b.
RF_DEVICE int dot4(std::uint32_t a, std::uint32_t b, int c) {
  const int x = static_cast<int>(a), y = static_cast<int>(b);
#if defined(__GFX11__) || defined(__GFX12__)
  return __builtin_amdgcn_sudot4(true, x, true, y, c, false);
#else
  return __builtin_amdgcn_sdot4(x, y, c, false);
#endif
}

// Byte i is byte (selectors >> 8 i & 7) of the eight bytes of low, then high.
RF_DEVICE std::uint32_t select_bytes(std::uint32_t low, std::uint32_t high,
                                     std::uint32_t selectors) {
  return __builtin_amdgcn_perm(high, low, selectors);
}

struct alignas(16) Words4 {
  std::uint32_t v[4];
};

RF_DEVICE Words4 load16(const void* p) {
  typedef std::uint32_t Vector __attribute__((ext_vector_type(4)));
  const Vector v = *static_cast<const Vector*>(p);
  return {{v.x, v.y, v.z, v.w}};
}

RF_DEVICE void store16(void* p, const Words4& w) {
  typedef std::uint32_t Vector __attribute__((ext_vector_type(4)));
  *static_cast<Vector*>(p) = Vector{w.v[0], w.v[1], w.v[2], w.v[3]};
}

// N words from an address of any alignment that is at least kAlign. One load: these devices read
// any address.
template <int N, int kAlign>
RF_DEVICE void load_words(std::uint32_t* words, const void* p) {
  typedef std::uint32_t Vector __attribute__((ext_vector_type(N), aligned(kAlign)));
  const Vector v = *static_cast<const Vector*>(p);
  for (int i = 0; i < N; ++i) words[i] = v[i];
}

// The low word of the two after a shift to the right.
RF_DEVICE std::uint32_t funnel_right(std::uint32_t low, std::uint32_t high, int shift) {
  return __builtin_amdgcn_alignbit(high, low, static_cast<std::uint32_t>(shift));
}
constexpr bool kUnalignedLoads = true;

RF_DEVICE float half_to_float(std::uint16_t h) {
  return static_cast<float>(__builtin_bit_cast(_Float16, h));
}

// The four signed bytes of a word.
RF_DEVICE void bytes_to_floats(float* f, std::uint32_t bytes) {
  const std::uint32_t raised = bytes ^ 0x80808080u;  // v_cvt_f32_ubyte takes them from any place
  for (int i = 0; i < 4; ++i) f[i] = static_cast<float>(raised >> (8 * i) & 0xff) - 128.0f;
}

// The four bytes of a word, below 128 each, plus kCodeBase.
constexpr int kCodeBase = 0;
RF_DEVICE void codes_to_floats(float* f, std::uint32_t bytes) {
  for (int i = 0; i < 4; ++i) f[i] = static_cast<float>(bytes >> (8 * i) & 0xff);
}

// Both rounded to bf16, to nearest and even; `low` in the low half.
RF_DEVICE std::uint32_t pack_bf16(float low, float high) {
  return quant::float_to_bf16(low) | static_cast<std::uint32_t>(quant::float_to_bf16(high)) << 16;
}

// As pack_bf16.
RF_DEVICE std::uint32_t pack_f16(float low, float high) {
  return __builtin_bit_cast(std::uint16_t, static_cast<_Float16>(low)) |
         static_cast<std::uint32_t>(__builtin_bit_cast(std::uint16_t, static_cast<_Float16>(high)))
             << 16;
}

// 2^x, of at least 22 bits.
RF_DEVICE float exp2(float x) { return __builtin_amdgcn_exp2f(x); }

// For a value that is the same in all lanes of a wave: keeps it, and addresses made of it, in
// scalar registers.
RF_DEVICE int uniform(int v) { return __builtin_amdgcn_readfirstlane(v); }

// The same value, but nothing that the compiler could step from one iteration to the next in
// registers of its own.
RF_DEVICE unsigned opaque(unsigned v) {
  asm volatile("" : "+v"(v));
  return v;
}

// Loads stay on their side of it.
RF_DEVICE void scheduling_fence() {
  asm volatile("" ::: "memory");
  __builtin_amdgcn_sched_barrier(0);
}

// e^x to a few units in the last place of 1 + |x|.
RF_DEVICE float fast_exp(float x) { return __builtin_amdgcn_exp2f(x * 1.44269504f); }
RF_DEVICE float exp(float x) { return __builtin_expf(x); }
RF_DEVICE float sqrt(float x) { return __builtin_sqrtf(x); }
RF_DEVICE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
RF_DEVICE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
RF_DEVICE float round_to_even(float x) { return __builtin_rintf(x); }
RF_DEVICE double round_to_even(double x) { return __builtin_rint(x); }

}  // namespace rocmforge::gpu
