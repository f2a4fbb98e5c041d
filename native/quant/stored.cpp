#include "quant/stored.hpp"

#include "quant/stored_blocks.hpp"

namespace rocmforge::quant {
namespace {

template <class Block, int kWeights>
void decode_row(float* y, const void* row, std::int64_t k) {
  const auto* blocks = static_cast<const Block*>(row);
  for (std::int64_t b = 0; b < k / kWeights; ++b)
    for (int i = 0; i < kWeights; ++i)
      y[b * kWeights + i] = factor(blocks[b], i) * static_cast<float>(quant(blocks[b], i));
}

#define RF_STORED(name, id, weights, bytes, Block) \
  static_assert(sizeof(Block) == (bytes) && alignof(Block) == 1, #name " layout");
#include "quant/stored_formats.def"
#undef RF_STORED

constexpr StoredFormat kStored[] = {
#define RF_STORED(name, id, weights, bytes, Block) \
  {#name, id, weights, bytes, decode_row<Block, weights>},
#include "quant/stored_formats.def"
#undef RF_STORED
};

}  // namespace

std::span<const StoredFormat> stored_formats() { return kStored; }

}  // namespace rocmforge::quant
