// hidden += W x + bias, and hidden as the next product wants it: a block has 32 rows, a group of
// the quantized output (step_args.hpp).
#include "include/step_output.hpp"
#include "include/step_rows.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave, class Block, int kColumns>
RF_DEVICE void step_residual(const StepResidualArgs& a) {
  constexpr int kWaves = kStepResidualThreads / kWave, kRows = 32 / kWaves;
  RF_SHARED(float, results, kColumns * 32);
  constexpr int kStaging = staging_words<kWave, Block>() / 4;
  RF_SHARED(Words4, staging, kWaves * kStaging);
  const auto columns = StepColumns<kColumns>::template of<Block>(a.in);
  const int wave = uniform(thread_index() / kWave), lane = thread_index() % kWave;
  // Eight lanes finish a column; what they need comes while the products are made.
  const int c = thread_index() / 8, i = thread_index() % 8 * 4;
  const bool active = c < kColumns && columns.has(c);
  const std::int64_t column = columns.first + c;
  const int position = block_x() * 32 + i;
  float v[4] = {}, bias[4] = {};
  if (active) {
    load_four(v, a.hidden + column * a.rows + position);
    if (a.bias) load_four(bias, a.bias + position);
  }
  constexpr int kAtOnce = rows_at_once<kWave, Block, kColumns>(kRows);
  const auto row_of = [&](int pass, int r) {
    return offset_bytes(a.w, (block_x() * 32 + wave * kRows + pass * kAtOnce + r) * a.row_bytes);
  };
  const auto emit = [&](int pass, const float(&sums)[kAtOnce][kColumns]) {
    if (lane != 0) return;
    RF_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      RF_UNROLL
      for (int r = 0; r < kAtOnce; ++r)
        results[c * 32 + wave * kRows + pass * kAtOnce + r] = sums[r][c];
    }
  };
  multiply_rows<kWave, Block, kAtOnce, kColumns>(staging[wave * kStaging].v, kRows / kAtOnce,
                                                 row_of, columns.x, a.in.k, emit);
  barrier();

  if (wave * kWave / 8 >= kColumns) return;
  if (active) {
    for (int j = 0; j < 4; ++j) v[j] += results[c * 32 + i + j] + bias[j];
    store_four(a.hidden + column * a.rows + position, v);
  }
  if (a.out.weight) store_step_output<kWave>(a.out, column, a.rows, position, v, active);
}

}  // namespace

#define RF_STEP_RESIDUAL(name, Block, columns)                        \
  RF_KERNEL_BLOCK(step_residual, name##_c##columns, StepResidualArgs, \
                  rocmforge::gpu::kStepResidualThreads, step_residual, quant::Block, columns)
#define RF_STEP_FORMAT(name, id, Block, activation) \
  RF_STEP_RESIDUAL(name, Block, 1)                  \
  RF_STEP_RESIDUAL(name, Block, 4)
#include "include/step_formats.def"
#undef RF_STEP_FORMAT
RF_EXPECT("step_residual_F16_*", 192, load16)
RF_EXPECT("step_residual_*", 192, dot4, load16)

}  // namespace rocmforge::gpu
