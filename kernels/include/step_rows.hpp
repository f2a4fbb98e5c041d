// Dot products of neighbouring rows of weights with a few columns, by one wave: its lanes share the
// chunks of a row, the next chunk of every row is under way while one is multiplied, and a column's
// values are loaded once for all rows. A column's sums have the same bits for every number of
// columns.
//
// Rounding with S = sum |w| |x|, a min counted apart from its quant: |error| <= (chunks of a lane
// + 24) * 2^-24 * S for quantized formats, (k / kWave + 8) * 2^-24 * S for float16.
#pragma once

#include "include/chunk_stream.hpp"
#include "include/decode_row.hpp"

namespace rocmforge::gpu {

// Whether the wave's blocks pass through shared memory. The emulation does as NVIDIA in waves of 32
// and as AMD in waves of 64.
template <int kWave, class Block>
constexpr bool is_staged() {
  if constexpr (quant::BlockTraits<Block>::kWeights == 1) {
    return false;
  } else {
#if defined(RF_GPU_HOST)
    return kWave == 32 && !StepChunk<Block>::kAligned;
#else
    return !kUnalignedLoads && !StepChunk<Block>::kAligned;
#endif
  }
}

// Words of shared memory that a wave needs for it.
template <int kWave, class Block>
constexpr int staging_words() {
  if constexpr (is_staged<kWave, Block>())
    return ChunkStream<kWave, Block, true>::kSharedWords;
  else
    return 4;
}

// Steps of a wave whose weights are under way at once: of so many registers of loads at most.
template <int kWave, class Stream, int kRows, int kColumns>
constexpr int steps_ahead() {
  constexpr int kMost = (kColumns == 1 ? 56 : 16) / (Stream::kRegisters * kRows);
  if (kWave == 64) return 1;
  return kMost < 1 ? 1 : kMost > 4 ? 4 : kMost;
}

// Rows that a wave multiplies together: a power of two, as many as registers hold (on gfx9 these
// are 128). On an H200 gate and up of 14336 x 4096, Q4_K, take 25 us with 8 rows, 28 with 4, and 33
// with 4 and three blocks a multiprocessor instead of two: what rows share counts for more than
// waves.
template <int kWave, class Block, int kColumns>
constexpr int rows_at_once(int rows) {
  constexpr bool kQ4K = sizeof(Block) == sizeof(quant::BlockQ4_K);
  constexpr bool kQ6K = sizeof(Block) == sizeof(quant::BlockQ6_K);
  int most = kQ4K ? 8 : kQ6K ? 2 : 4;
  if (kColumns > 1) most = kQ6K ? 1 : 2;
  if (kWave == 64) most = quant::BlockTraits<Block>::kWeights == 256 || kColumns > 1 ? 1 : 2;
  return rows < most ? rows : most;
}

// The products of kRows rows at a time: row_of(pass, r) for 0 <= pass < passes, whose sums, one of
// each lane, emit(pass, sums) gets. `staging` is the wave's own.
template <int kWave, class Block, int kRows, int kColumns, class RowOf, class Emit>
RF_DEVICE void multiply_quantized(std::uint32_t* staging, int passes, RowOf row_of,
                                  const char* const (&x)[kColumns], int k, Emit emit) {
  using Stream = ChunkStream<kWave, Block, is_staged<kWave, Block>()>;
  using Parts = typename Stream::Parts;
  constexpr int kAhead = steps_ahead<kWave, Stream, kRows, kColumns>();
  constexpr int kBlockWeights = quant::BlockTraits<Block>::kWeights;
  constexpr int kStepWeights = kWave / Parts::kPerBlock * kBlockWeights;
  const int steps = k / kStepWeights;
  const int rest = (k - steps * kStepWeights) / kBlockWeights * Parts::kPerBlock;
  const int lane = thread_index() % kWave;
  const unsigned begin =
      lane / Parts::kPerBlock * kBlockWeights + Parts::offset(lane % Parts::kPerBlock, 0);
  RF_NO_UNROLL
  for (int pass = 0; pass < passes; ++pass) {
    const void* rows[kRows];
    Stream streams[kAhead][kRows];
    float sums[kRows][kColumns] = {};
    RF_UNROLL
    for (int r = 0; r < kRows; ++r) rows[r] = row_of(pass, r);
    RF_UNROLL
    for (int u = 0; u < kAhead; ++u) {
      RF_UNROLL
      for (int r = 0; r < kRows; ++r)
        if (u < steps) streams[u][r].fetch(rows[r], u, kWave);
    }
    for (int first = 0; first < steps; first += kAhead) {
      RF_UNROLL
      for (int u = 0; u < kAhead; ++u) {
        const int step = first + u;
        if (step >= steps) break;
        const unsigned position = begin + step * kStepWeights;
        if constexpr (kColumns * Parts::kPieces >
                      (kWave == 64 ? 4 : 8)) {  // more than registers hold at once
          typename Parts::Type chunks[kRows];
          RF_UNROLL
          for (int r = 0; r < kRows; ++r) {
            chunks[r] = streams[u][r].chunk(staging, rows[r]);
            if (step + kAhead < steps) streams[u][r].fetch(rows[r], step + kAhead, kWave);
          }
          RF_UNROLL
          for (int c = 0; c < kColumns; ++c) {
            ChunkInput<typename Parts::Input> input;
            input.load(x[c], k, position);
            RF_UNROLL
            for (int r = 0; r < kRows; ++r) sums[r][c] += Parts::times(chunks[r], input, begin);
            scheduling_fence();
          }
        } else {
          ChunkInput<typename Parts::Input> inputs[kColumns];
          RF_UNROLL
          for (int c = 0; c < kColumns; ++c) inputs[c].load(x[c], k, position);
          RF_UNROLL
          for (int r = 0; r < kRows; ++r) {
            const auto chunk = streams[u][r].chunk(staging, rows[r]);
            if (step + kAhead < steps) streams[u][r].fetch(rows[r], step + kAhead, kWave);
            RF_UNROLL
            for (int c = 0; c < kColumns; ++c) sums[r][c] += Parts::times(chunk, inputs[c], begin);
          }
        }
      }
    }
    if (rest > 0) {  // fewer chunks than lanes
      RF_UNROLL
      for (int r = 0; r < kRows; ++r) streams[0][r].fetch(rows[r], steps, rest);
      const bool valid = lane < rest;
      const unsigned position = valid ? begin + steps * kStepWeights : 0;
      typename Parts::Type chunks[kRows];
      RF_UNROLL
      for (int r = 0; r < kRows; ++r) chunks[r] = streams[0][r].chunk(staging, rows[r]);
      RF_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        ChunkInput<typename Parts::Input> input;
        input.load(x[c], k, position);
        RF_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const float product = Parts::times(chunks[r], input, begin);
          sums[r][c] += valid ? product : 0.0f;
        }
        scheduling_fence();
      }
    }
    emit(pass, sums);
  }
}

// float16 weights: eight a lane, several steps of the wave ahead.
template <int kWave, int kRows, int kColumns, class RowOf, class Emit>
RF_DEVICE void multiply_halves(int passes, RowOf row_of, const char* const (&x)[kColumns], int k,
                               Emit emit) {
  constexpr int kCount = 8, kAhead = 4;
  RF_NO_UNROLL
  for (int pass = 0; pass < passes; ++pass) {
    float sums[kRows][kColumns] = {};
    for (int first = thread_index() % kWave * kCount; first < k; first += kWave * kCount * kAhead) {
      Words4 words[kAhead][kRows];
      RF_UNROLL
      for (int s = 0; s < kAhead; ++s) {
        const int i = first + s * kWave * kCount;
        RF_UNROLL
        for (int r = 0; r < kRows; ++r)
          words[s][r] = i < k ? load16(offset_bytes(row_of(pass, r), i * 2)) : Words4{};
      }
      RF_UNROLL
      for (int s = 0; s < kAhead; ++s) {
        const int i = first + s * kWave * kCount;
        if (i >= k) continue;
        RF_UNROLL
        for (int c = 0; c < kColumns; ++c) {
          const Words4 low = load16(x[c] + i * 4), high = load16(x[c] + i * 4 + 16);
          RF_UNROLL
          for (int r = 0; r < kRows; ++r) {
            RF_UNROLL
            for (int j = 0; j < kCount; ++j)
              sums[r][c] = fma(half_at(words[s][r].v, j),
                               quant::float_of_bits(j < 4 ? low.v[j] : high.v[j - 4]), sums[r][c]);
          }
        }
      }
    }
    emit(pass, sums);
  }
}

// As multiply_quantized() says, with whole sums in every lane.
template <int kWave, class Block, int kRows, int kColumns, class RowOf, class Emit>
RF_DEVICE void multiply_rows(std::uint32_t* staging, int passes, RowOf row_of,
                             const char* const (&x)[kColumns], int k, Emit emit) {
  const auto add_up = [&](int pass, float(&sums)[kRows][kColumns]) {
    RF_UNROLL
    for (int r = 0; r < kRows; ++r) RF_UNROLL
    for (int c = 0; c < kColumns; ++c) sums[r][c] = wave_sum<kWave>(sums[r][c]);
    emit(pass, sums);
  };
  if constexpr (quant::BlockTraits<Block>::kWeights == 1)
    multiply_halves<kWave, kRows, kColumns>(passes, row_of, x, k, add_up);
  else
    multiply_quantized<kWave, Block, kRows, kColumns>(staging, passes, row_of, x, k, add_up);
}

// The columns of a launch that a block multiplies; beyond the last it repeats that one.
template <int kColumns>
struct StepColumns {
  const StepInput& in;
  int first;
  const char* x[kColumns];

  template <class Block>
  RF_DEVICE static StepColumns of(const StepInput& in) {
    StepColumns c{in, block_y() * kColumns, {}};
    const std::int64_t stride = quant::BlockTraits<Block>::kWeights == 1
                                    ? std::int64_t{in.k} * static_cast<int>(sizeof(float))
                                    : q8_row_bytes(in.k);
    for (int i = 0; i < kColumns; ++i)
      c.x[i] = static_cast<const char*>(in.x) + c.index(i) * stride;
    return c;
  }
  RF_DEVICE int index(int i) const { return first + i < in.columns ? first + i : in.columns - 1; }
  RF_DEVICE bool has(int i) const { return first + i < in.columns; }
};

// The sums of squares of a column on their way: loaded long before they are wanted.
template <int kWave>
struct StepSquares {
  static constexpr int kOfLane = kMaxStepWidth / 32 / kWave;
  float values[kOfLane];

  RF_DEVICE void load(const StepInput& in, int column) {
    const int n = in.k / 32;
    RF_UNROLL
    for (int i = 0; i < kOfLane; ++i) {
      const int at = i * kWave + thread_index() % kWave;
      values[i] = in.squares && at < n ? in.squares[std::int64_t{column} * n + at] : 0.0f;
    }
  }
  // 1 / rms, or 1 where there is no norm; all lanes of the wave take part.
  RF_DEVICE float scale(const StepInput& in) const {
    if (!in.squares) return 1.0f;
    float sum = 0.0f;
    RF_UNROLL
    for (int i = 0; i < kOfLane; ++i) sum += values[i];
    return 1.0f / sqrt(wave_sum<kWave>(sum) / static_cast<float>(in.k) + in.eps);
  }
};

template <int kWave>
RF_DEVICE float step_scale(const StepInput& in, int column) {
  StepSquares<kWave> squares;
  squares.load(in, column);
  return squares.scale(in);
}

}  // namespace rocmforge::gpu
