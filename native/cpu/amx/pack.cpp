// Columns in float32 to the packed bfloat16 of layout.hpp.
#include "cpu/amx/layout.hpp"
#include "cpu/amx/round.hpp"
#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

std::int64_t packed_bytes(std::int64_t k, std::int64_t columns) {
  return PackedLayout(k, columns).bytes();
}

void pack(const PackArgs& a) {
  const PackedLayout layout(a.k, a.num_cols);
  // Tiles of k at a time: two lines of a column for each of them, so that neither reads nor writes
  // jump with every line.
  constexpr std::int64_t kRun = 4;
  for (std::int64_t t = a.tile_begin; t < a.tile_end; ++t) {
    const std::int64_t block = t / 2;
    for (std::int64_t first = 0; first < layout.k_tiles; first += kRun) {
      const std::int64_t last = smaller(first + kRun, layout.k_tiles);
      for (std::int64_t c = 0; c < kTileColumns; ++c) {
        const std::int64_t column = t * kTileColumns + c;
        const bool present = column < a.num_cols;
        const std::int64_t row = !present ? 0 : a.source ? a.source[column] : column - a.x_first;
        const float* x = a.x + row * a.x_stride;
        for (std::int64_t kt = first; kt < last; ++kt) {
          const std::int64_t slab = kt / (kDepth / kTileDepth);
          const std::int64_t in_slab = kt % (kDepth / kTileDepth);
          char* to = static_cast<char*>(a.y) + layout.block_offset(slab, block) +
                     (in_slab * layout.block_tiles(block) + t % 2) * kTileBytes + 64 * c;
          const std::int64_t at = kt * kTileDepth;
          _mm512_store_si512(to, present ? rounded(x + at, a.k - at) : _mm512_setzero_si512());
        }
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
