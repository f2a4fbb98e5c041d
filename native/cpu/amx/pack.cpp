// Columns in float32 to the packed bfloat16 of layout.hpp.
#include "cpu/amx/layout.hpp"
#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

std::int64_t packed_bytes(std::int64_t k, std::int64_t columns) {
  return PackedLayout(k, columns).bytes();
}

// 32 values from x on as bfloat16, rounded to nearest even; those beyond n are zero.
inline __m512i rounded(const float* x, std::int64_t n) {
  const auto mask = [](std::int64_t left) {
    return static_cast<__mmask16>(left >= 16 ? 0xffff : left <= 0 ? 0 : (1 << left) - 1);
  };
  const __m512 low = _mm512_maskz_loadu_ps(mask(n), x);
  const __m512 high = _mm512_maskz_loadu_ps(mask(n - 16), x + 16);
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

void pack(const PackArgs& a) {
  const PackedLayout layout(a.k, a.num_cols);
  alignas(64) char tile[kTileBytes];
  for (std::int64_t t = a.tile_begin; t < a.tile_end; ++t) {
    const float* columns[kTileColumns];
    const std::int64_t first = t * kTileColumns;
    const std::int64_t used = smaller(kTileColumns, a.num_cols - first);
    for (std::int64_t c = 0; c < used; ++c)
      columns[c] = a.x + (a.source ? a.source[first + c] : first + c) * a.x_stride;
    const std::int64_t block = t / 2;
    for (std::int64_t kt = 0; kt < layout.k_tiles; ++kt) {
      for (std::int64_t c = 0; c < kTileColumns; ++c) {
        const std::int64_t at = kt * kTileDepth;
        const __m512i v = c < used ? rounded(columns[c] + at, a.k - at) : _mm512_setzero_si512();
        _mm512_store_si512(tile + 64 * c, v);
      }
      const std::int64_t slab = kt / (kDepth / kTileDepth);
      const std::int64_t in_slab = kt % (kDepth / kTileDepth);
      char* to = static_cast<char*>(a.y) + layout.block_offset(slab, block) +
                 (in_slab * layout.block_tiles(block) + t % 2) * kTileBytes;
      for (int quarter = 0; quarter < 4; ++quarter) {
        __m512i pairs[4];
        tile_columns(pairs, tile, quarter);
        for (int i = 0; i < 4; ++i) _mm512_store_si512(to + 64 * (4 * quarter + i), pairs[i]);
      }
    }
  }
}

}  // namespace

void install_amx_pack(Kernels& k) {
  k.gemm.packed_bytes = packed_bytes;
  k.gemm.pack = pack;
}

}  // namespace rocmforge::cpu
