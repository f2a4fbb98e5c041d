// The AMX instructions.
//
// All eight tiles are 16 rows of 64 bytes unless configured otherwise. They are written as inline
// assembly because GCC 12's own ldtilecfg claims to read 8 of the 64 bytes of the configuration,
// and because its tile loads do not say that they read memory: stores to a panel could move past
// them.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kTileBytes = 1024;

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// Tiles belong to a thread and are zero after this.
inline void configure_tiles(const TileConfig& config = {}) {
  asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

// Until the next configure_tiles() the kernel need not save 8 KB when it switches threads.
inline void release_tiles() { asm volatile("tilerelease" : : : "memory"); }

template <int kTile>
[[gnu::always_inline]] inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}

template <int kTile>
[[gnu::always_inline]] inline void tile_load(const void* p, std::int64_t stride = 64) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(kTile) : "memory");
}

// With a hint that the lines need not stay in the first-level cache.
template <int kTile>
[[gnu::always_inline]] inline void tile_load_once(const char* p) {
  asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(64L), "i"(kTile) : "memory");
}

template <int kTile>
[[gnu::always_inline]] inline void tile_store(void* p, std::int64_t stride = 64) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(kTile) : "memory");
}

// sum[m][n] += a[m][2k] * b[k][2n] + a[m][2k + 1] * b[k][2n + 1] over k = 0..15, sums in float32
// and pairs in bfloat16. Subnormals count as zeros, in and out.
template <int kSum, int kA, int kB>
[[gnu::always_inline]] inline void tile_multiply_add() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

// sum[m][n] += sum of a[m][4k + i] * b[k][4n + i] over i = 0..3 and the rows k of b: signed bytes,
// exact.
template <int kSum, int kA, int kB>
[[gnu::always_inline]] inline void tile_multiply_add_bytes() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

}  // namespace
}  // namespace rocmforge::cpu
