// How a wave gets the chunks of a row from memory, one a lane and step: each lane its own; or,
// where loads need aligned addresses and blocks have none, together in pieces of 16 bytes that pass
// through shared memory. A step is a whole number of blocks, so a lane has chunk lane % kPerBlock
// of its block in every step, and what a step adds to addresses is a constant.
#pragma once

#include "include/step_chunks.hpp"

namespace rocmforge::gpu {

// A block in global memory.
struct DirectSource {
  const char* block;

  template <int N, int kAlign>
  RF_DEVICE void words(std::uint32_t* to, int offset) const {
    load_words<N, kAlign>(to, block + offset);
  }
  RF_DEVICE std::uint32_t half(int offset) const {
    return *reinterpret_cast<const std::uint16_t*>(block + offset);
  }
};

// A block at a byte of shared words, of even address.
struct StagedSource {
  const std::uint32_t* shared;
  int begin;

  template <int N, int kAlign>
  RF_DEVICE void words(std::uint32_t* to, int offset) const {
    const int first = (begin + offset) / 4, shift = (begin + offset) % 4 * 8;
    std::uint32_t low = shared[first];
    RF_UNROLL
    for (int i = 0; i < N; ++i) {
      const std::uint32_t high = shared[first + i + 1];
      to[i] = funnel_right(low, high, shift);
      low = high;
    }
  }
  RF_DEVICE std::uint32_t half(int offset) const {
    return shared[(begin + offset) / 4] >> ((begin + offset) % 4 * 8) & 0xffff;
  }
};

template <int kWave, class Block, bool kStaged>
struct ChunkStream;

template <int kWave, class Block>
struct ChunkStream<kWave, Block, false> {
  using Parts = StepChunk<Block>;
  static constexpr int kBytes = kWave / Parts::kPerBlock * static_cast<int>(sizeof(Block));
  static constexpr int kRegisters = sizeof(typename StepChunk<Block>::Raw) / 4;
  typename StepChunk<Block>::Raw raw;

  // The first `count` lanes' chunks of a step; the others get one of them.
  RF_DEVICE void fetch(const void* row, int step, int count) {
    const int lane = thread_index() % kWave;
    const int block = (lane < count ? lane : 0) / Parts::kPerBlock;
    const int at = step * kBytes + block * static_cast<int>(sizeof(Block));
    raw = StepChunk<Block>::load(DirectSource{static_cast<const char*>(row) + at},
                                 lane % Parts::kPerBlock);
  }
  RF_DEVICE typename Parts::Type chunk(std::uint32_t*, const void*) const {
    return StepChunk<Block>::unpack(raw, thread_index() % kWave % Parts::kPerBlock);
  }
};

template <int kWave, class Block>
struct ChunkStream<kWave, Block, true> {
  using Parts = StepChunk<Block>;
  static constexpr int kBytes = kWave / Parts::kPerBlock * static_cast<int>(sizeof(Block));
  static_assert(kBytes % 16 == 0);  // all steps of a row begin alike
  static constexpr int kPieces = (kBytes + 15 + 15) / 16;
  static constexpr int kOfLane = (kPieces + kWave - 1) / kWave;
  static constexpr int kRegisters = kOfLane * 4;
  // A word more: the last one of a chunk is shifted together with what follows.
  static constexpr int kSharedWords = (kPieces + 1) * 4;
  Words4 pieces[kOfLane];

  RF_DEVICE static int skew(const void* row) {
    return static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % 16);
  }
  RF_DEVICE void fetch(const void* row, int step, int count) {
    const int bytes = count / Parts::kPerBlock * static_cast<int>(sizeof(Block)) + skew(row);
    const char* from = static_cast<const char*>(row) - skew(row) + step * kBytes;
    RF_UNROLL
    for (int i = 0; i < kOfLane; ++i) {
      const int at = (i * kWave + thread_index() % kWave) * 16;
      pieces[i] = load16(from + (at < bytes ? at : 0));
    }
  }
  // All lanes of the wave take part.
  RF_DEVICE typename Parts::Type chunk(std::uint32_t* shared, const void* row) const {
    const int lane = thread_index() % kWave;
    RF_UNROLL
    for (int i = 0; i < kOfLane; ++i)
      if (i * kWave + lane < kPieces) store16(shared + (i * kWave + lane) * 4, pieces[i]);
    wave_barrier<kWave>();
    const StagedSource source{
        shared, skew(row) + lane / Parts::kPerBlock * static_cast<int>(sizeof(Block))};
    const auto raw = StepChunk<Block>::load(source, lane % Parts::kPerBlock);
    wave_barrier<kWave>();
    return StepChunk<Block>::unpack(raw, lane % Parts::kPerBlock);
  }
};

}  // namespace rocmforge::gpu
