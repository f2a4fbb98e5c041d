// The vocabulary of gpu.hpp for a CPU: the executor in host/ runs every thread of a block as a
// fiber and joins them at barriers and wave operations.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "host/registry.hpp"
#include "include/launch.hpp"
#include "quant/small_floats.hpp"

#define RF_DEVICE inline __attribute__((always_inline))
#define RF_UNROLL
// The site tells arrays of one block apart.
#define RF_SHARED(type, name, n) \
  type* const name =             \
      static_cast<type*>(rocmforge::gpu::host::shared(__COUNTER__, sizeof(type) * (n)))

// Before loops whose arrays have to become registers.
#define RF_UNROLL
// Before loops whose steps are to share registers.
#define RF_NO_UNROLL

#define RF_KERNEL_OF_WAVE(name, Args, wave, threads, call)                      \
  static void name(const void* args) { call(*static_cast<const Args*>(args)); } \
  [[maybe_unused]] static const bool name##_registered =                        \
      rocmforge::gpu::host::register_kernel({#name, sizeof(Args), wave, threads, name});
#define RF_KERNEL_W32(name, Args, threads, call) RF_KERNEL_OF_WAVE(name, Args, 32, threads, call)
#define RF_KERNEL_W64(name, Args, threads, call) RF_KERNEL_OF_WAVE(name, Args, 64, threads, call)
#define RF_KERNEL_LARGE_W32 RF_KERNEL_W32
#define RF_KERNEL_LARGE_W64 RF_KERNEL_W64
#define RF_KERNEL_HUGE_W32 RF_KERNEL_W32
#define RF_KERNEL_HUGE_W64 RF_KERNEL_W64

namespace rocmforge::gpu {

namespace host {

struct Indices {
  int thread, block_x, block_y, block_z;
};
// Of the fiber that runs: fibers never change their OS thread.
extern constinit thread_local Indices indices;

// 16-byte aligned, the same for all threads of the block.
void* shared(int site, std::size_t bytes);
void barrier();
// Gives every lane the values of all lanes of its wave, after `combine` (if any) was run on them
// once; valid until the lane's next wave operation. Lanes that meet must ask for the same
// `operation`.
using Combine = void (*)(std::uint32_t* values, int wave);
const std::uint32_t* exchange(std::uint32_t value, int wave, int operation, Combine combine);

}  // namespace host

RF_DEVICE int thread_index() { return host::indices.thread; }
RF_DEVICE int block_x() { return host::indices.block_x; }
RF_DEVICE int block_y() { return host::indices.block_y; }
RF_DEVICE int block_z() { return host::indices.block_z; }
RF_DEVICE void barrier() { host::barrier(); }

// Blocks run one after the other.
RF_DEVICE std::uint32_t count_arrival(std::uint32_t* counter) { return (*counter)++; }
RF_DEVICE void publish() {}
RF_DEVICE void receive() {}

template <class To, class From>
RF_DEVICE To bits_as(From v) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &v, sizeof to);
  return to;
}

template <int kWave, int kMask, class T>
RF_DEVICE T shuffle_xor(T v) {
  static_assert(kMask < kWave);
  const auto bits = bits_as<std::uint32_t>(v);
  return bits_as<T>(host::exchange(bits, kWave, kMask, nullptr)[(thread_index() ^ kMask) % kWave]);
}

// The tree of reduce_lanes() for every group of lanes of a wave. The operations are commutative,
// so all lanes of a group get the same bits.
template <int kLanes, class T, class Op>
void host_combine(std::uint32_t* values, int wave) {
  for (int first = 0; first < wave; first += kLanes) {
    T v[kLanes];
    for (int i = 0; i < kLanes; ++i) v[i] = bits_as<T>(values[first + i]);
    for (int mask = kLanes / 2; mask > 0; mask /= 2)
      for (int i = 0; i < mask; ++i) v[i] = Op{}(v[i], v[i + mask]);
    for (int i = 0; i < kLanes; ++i) values[first + i] = bits_as<std::uint32_t>(v[0]);
  }
}

template <int kWave, int kLanes, class T, class Op>
RF_DEVICE T host_reduce(T v, Op) {
  const auto bits = bits_as<std::uint32_t>(v);
  return bits_as<T>(
      host::exchange(bits, kWave, -kLanes, host_combine<kLanes, T, Op>)[thread_index() % kWave]);
}

RF_DEVICE int dot4(std::uint32_t a, std::uint32_t b, int c) {
  for (int shift = 0; shift < 32; shift += 8)
    c += static_cast<std::int8_t>(a >> shift) * static_cast<std::int8_t>(b >> shift);
  return c;
}

RF_DEVICE std::uint32_t select_bytes(std::uint32_t low, std::uint32_t high,
                                     std::uint32_t selectors) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(high) << 32 | low;
  std::uint32_t selected = 0;
  for (int shift = 0; shift < 32; shift += 8)
    selected |= static_cast<std::uint32_t>(bytes >> ((selectors >> shift & 7) * 8) & 0xff) << shift;
  return selected;
}

struct alignas(16) Words4 {
  std::uint32_t v[4];
};

// Compiles to an aligned load: a wrong address is a fault here too.
RF_DEVICE Words4 load16(const void* p) { return *static_cast<const Words4*>(p); }

RF_DEVICE void store16(void* p, const Words4& w) { *static_cast<Words4*>(p) = w; }

template <int N, int kAlign>
RF_DEVICE void load_words(std::uint32_t* words, const void* p) {
  std::memcpy(words, p, N * sizeof(std::uint32_t));
}

RF_DEVICE std::uint32_t funnel_right(std::uint32_t low, std::uint32_t high, int shift) {
  return static_cast<std::uint32_t>((static_cast<std::uint64_t>(high) << 32 | low) >> shift);
}

RF_DEVICE float half_to_float(std::uint16_t h) { return quant::half_to_float(h); }

RF_DEVICE void bytes_to_floats(float* f, std::uint32_t bytes) {
  for (int i = 0; i < 4; ++i) f[i] = static_cast<std::int8_t>(bytes >> (8 * i));
}

// The four bytes of a word, below 128 each, plus kCodeBase.
constexpr int kCodeBase = 0;
RF_DEVICE void codes_to_floats(float* f, std::uint32_t bytes) {
  for (int i = 0; i < 4; ++i) f[i] = static_cast<float>(bytes >> (8 * i) & 0xff);
}

RF_DEVICE std::uint32_t pack_bf16(float low, float high) {
  return quant::float_to_bf16(low) | static_cast<std::uint32_t>(quant::float_to_bf16(high)) << 16;
}

RF_DEVICE std::uint32_t pack_f16(float low, float high) {
  return quant::float_to_half(low) | static_cast<std::uint32_t>(quant::float_to_half(high)) << 16;
}

RF_DEVICE float exp2(float x) { return ::exp2f(x); }

RF_DEVICE int uniform(int v) { return v; }

RF_DEVICE unsigned opaque(unsigned v) { return v; }

RF_DEVICE void scheduling_fence() {}

RF_DEVICE float fast_exp(float x) { return ::expf(x); }
RF_DEVICE float exp(float x) { return ::expf(x); }
RF_DEVICE float sqrt(float x) { return ::sqrtf(x); }
RF_DEVICE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
RF_DEVICE double fma(double a, double b, double c) { return ::fma(a, b, c); }
RF_DEVICE float round_to_even(float x) { return ::rintf(x); }
RF_DEVICE double round_to_even(double x) { return ::rint(x); }

}  // namespace rocmforge::gpu
