// Weights of a row by index, decoded by quant/blocks.hpp.
#pragma once

#include "include/gpu.hpp"
#include "quant/blocks.hpp"

namespace rocmforge::gpu {

template <class Block>
RF_DEVICE const Block* block_of(const void* row, int index) {
  return static_cast<const Block*>(row) + index;
}

template <class Block>
RF_DEVICE float decode_weight(const void* row, int i) {
  constexpr int kWeights = quant::BlockTraits<Block>::kWeights;
  return quant::decode(*block_of<Block>(row, i / kWeights), i % kWeights);
}

RF_DEVICE const void* offset_bytes(const void* p, std::int64_t bytes) {
  return static_cast<const char*>(p) + bytes;
}
RF_DEVICE void* offset_bytes(void* p, std::int64_t bytes) { return static_cast<char*>(p) + bytes; }

// A token id as EmbedArgs has it.
RF_DEVICE std::int64_t token_of(std::int32_t id, const std::int32_t* drawn) {
  if (id < 0) id = drawn[-1 - id];
  return id < 0 ? 0 : id;
}

}  // namespace rocmforge::gpu
