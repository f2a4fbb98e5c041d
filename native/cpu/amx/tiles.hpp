// The AMX instructions, and transposing what they leave in memory.
//
// All eight tiles are 16 rows of 64 bytes. They are written as inline assembly because GCC 12's
// own ldtilecfg claims to read 8 of the 64 bytes of the configuration, and because its tile loads
// do not say that they read memory: stores to a panel could move past them.
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
inline void configure_tiles() {
  const TileConfig config;
  asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

// Until the next configure_tiles() the kernel need not save 8 KB when it switches threads.
inline void release_tiles() { asm volatile("tilerelease" : : : "memory"); }

template <int kTile>
[[gnu::always_inline]] inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}

template <int kTile>
[[gnu::always_inline]] inline void tile_load(const char* p) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(64L), "i"(kTile) : "memory");
}

// With a hint that the lines need not stay in the first-level cache.
template <int kTile>
[[gnu::always_inline]] inline void tile_load_once(const char* p) {
  asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(64L), "i"(kTile) : "memory");
}

template <int kTile>
[[gnu::always_inline]] inline void tile_store(char* p) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(64L), "i"(kTile) : "memory");
}

// sum[m][n] += a[m][2k] * b[k][2n] + a[m][2k + 1] * b[k][2n + 1] over k = 0..15, sums in float32
// and pairs in bfloat16. Subnormals count as zeros, in and out.
template <int kSum, int kA, int kB>
[[gnu::always_inline]] inline void tile_multiply_add() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

// Columns 4 * quarter .. 4 * quarter + 3 of a stored tile of 16 x 16 words of 32 bits.
[[gnu::always_inline]] inline void tile_columns(__m512i (&columns)[4], const char* tile,
                                                int quarter) {
  const char* p = tile + 16 * quarter;
  __m512i r[4];  // lane j of r[i]: row 4 j + i
  for (int i = 0; i < 4; ++i) {
    const auto row = [&](int j) {
      return _mm_load_si128(reinterpret_cast<const __m128i*>(p + 64 * (4 * j + i)));
    };
    r[i] = _mm512_castsi128_si512(row(0));
    r[i] = _mm512_inserti32x4(r[i], row(1), 1);
    r[i] = _mm512_inserti32x4(r[i], row(2), 2);
    r[i] = _mm512_inserti32x4(r[i], row(3), 3);
  }
  const __m512i low01 = _mm512_unpacklo_epi32(r[0], r[1]);
  const __m512i high01 = _mm512_unpackhi_epi32(r[0], r[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(r[2], r[3]);
  const __m512i high23 = _mm512_unpackhi_epi32(r[2], r[3]);
  columns[0] = _mm512_unpacklo_epi64(low01, low23);
  columns[1] = _mm512_unpackhi_epi64(low01, low23);
  columns[2] = _mm512_unpacklo_epi64(high01, high23);
  columns[3] = _mm512_unpackhi_epi64(high01, high23);
}

}  // namespace
}  // namespace rocmforge::cpu
