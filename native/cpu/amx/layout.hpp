// How the columns of a product are packed for the tiles.
//
// Columns are bfloat16, k in slabs of 512 (kDepth), columns in blocks of 32, k in tiles of 32:
//   [slab][block][k tile][one or two tiles of 16 columns][16 columns][32 of k].
// The last slab is as short as it can be; an odd last tile of columns stands alone in its block.
// What lies beyond k or beyond the last column is zero.
#pragma once

#include <cstdint>

#include "cpu/amx/tiles.hpp"
#include "cpu/panel/layout.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kDepth = 512;     // k of a slab
constexpr std::int64_t kTileDepth = 32;  // k of a tile
constexpr std::int64_t kTileColumns = kGemmTileColumns;
constexpr std::int64_t kBlockColumns = 32;  // two tiles

constexpr std::int64_t tiles_of(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

struct PackedLayout {
  std::int64_t k_tiles;
  std::int64_t column_tiles;

  PackedLayout(std::int64_t k, std::int64_t columns)
      : k_tiles(tiles_of(k, kTileDepth)), column_tiles(tiles_of(columns, kTileColumns)) {}

  std::int64_t slab_tiles(std::int64_t slab) const {  // k tiles of a slab
    return smaller(kDepth / kTileDepth, k_tiles - slab * (kDepth / kTileDepth));
  }
  std::int64_t block_tiles(std::int64_t block) const {  // column tiles of a block: 1 or 2
    return smaller(2, column_tiles - 2 * block);
  }
  // Byte offset of a block's first tile; its tiles lie [k tile][column tile].
  std::int64_t block_offset(std::int64_t slab, std::int64_t block) const {
    const std::int64_t before = slab * (kDepth / kTileDepth) * column_tiles;
    return (before + 2 * block * slab_tiles(slab)) * kTileBytes;
  }
  std::int64_t bytes() const { return k_tiles * column_tiles * kTileBytes; }
};

}  // namespace
}  // namespace rocmforge::cpu
