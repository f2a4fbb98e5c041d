// silu(gate . x) * (up . x), ready for the next product: a block has 32 rows of each matrix, so
// that it can quantize a whole group (step_args.hpp).
#include "include/quantize_values.hpp"
#include "include/row_piece.hpp"
#include "include/step_rows.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave, class Block, int kColumns>
RF_DEVICE void step_gate_up(const StepGateUpArgs& a) {
  constexpr int kWaves = kStepGateUpThreads / kWave, kPairs = 32 / kWaves;
  constexpr int kRows = rows_at_once<kWave, Block, kColumns>(2 * kPairs);
  // Of each matrix; or one matrix after the other.
  constexpr int kAtOnce = kRows > 1 ? kRows / 2 : 1, kPasses = 2 * kPairs / kRows;
  RF_SHARED(float, results, kColumns * 64);
  constexpr int kStaging = staging_words<kWave, Block>() / 4;
  RF_SHARED(Words4, staging, kWaves * kStaging);
  const auto columns = StepColumns<kColumns>::template of<Block>(a.in);
  const int wave = uniform(thread_index() / kWave), lane = thread_index() % kWave;
  StepSquares<kWave> squares;
  if constexpr (kColumns == 1) squares.load(a.in, columns.index(0));
  // Where in the wave's gate rows, then up rows, row r of a pass is.
  const auto matrix_of = [](int pass, int r) { return kRows > 1 ? r / kAtOnce : pass / kPairs; };
  const auto index_of = [](int pass, int r) {
    return kRows > 1 ? pass * kAtOnce + r % kAtOnce : pass % kPairs;
  };
  const auto row_of = [&](int pass, int r) {
    const int row = block_x() * 32 + wave * kPairs + index_of(pass, r);
    return offset_bytes(matrix_of(pass, r) == 0 ? a.gate : a.up, row * a.row_bytes);
  };
  const auto emit = [&](int pass, const float(&sums)[kRows][kColumns]) {
    if (lane != 0) return;
    RF_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      RF_UNROLL
      for (int r = 0; r < kRows; ++r)
        results[c * 64 + matrix_of(pass, r) * 32 + wave * kPairs + index_of(pass, r)] = sums[r][c];
    }
  };
  multiply_rows<kWave, Block, kRows, kColumns>(staging[wave * kStaging].v, kPasses, row_of,
                                               columns.x, a.in.k, emit);
  barrier();

  const int c = thread_index() / 8, i = thread_index() % 8 * 4;
  if (wave * kWave / 8 >= kColumns) return;  // eight lanes a column
  const bool active = c < kColumns && columns.has(c);
  float scale = 1.0f;
  RF_UNROLL
  for (int other = 0; other < kColumns; ++other) {
    if constexpr (kColumns > 1) squares.load(a.in, columns.index(other));
    const float of_other = squares.scale(a.in);
    if (other == c) scale = of_other;
  }
  float y[4] = {};
  if (active) {
    for (int j = 0; j < 4; ++j) {
      const float gate = results[c * 64 + i + j] * scale;
      const float up = results[c * 64 + 32 + i + j] * scale;
      y[j] = gate / (1.0f + exp(-gate)) * up;
    }
  }
  const std::int64_t column = columns.first + c;
  const int position = block_x() * 32 + i;
  if (a.y && active) store_four(a.y + column * a.rows + position, y);
  if (a.quantized)
    store_quantized<kWave>(static_cast<char*>(a.quantized) + column * q8_row_bytes(a.rows), a.rows,
                           position, y, active);
}

}  // namespace

#define RF_STEP_GATE_UP(name, Block, columns)                      \
  RF_KERNEL_BLOCK(step_gate_up, name##_c##columns, StepGateUpArgs, \
                  rocmforge::gpu::kStepGateUpThreads, step_gate_up, quant::Block, columns)
#define RF_STEP_FORMAT(name, id, Block, activation) \
  RF_STEP_GATE_UP(name, Block, 1)                   \
  RF_STEP_GATE_UP(name, Block, 4)
#include "include/step_formats.def"
#undef RF_STEP_FORMAT
RF_EXPECT("step_gate_up_F16_*", 192, load16)
RF_EXPECT("step_gate_up_*", 192, dot4, load16)

}  // namespace rocmforge::gpu
