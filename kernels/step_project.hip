// y = W x of up to three matrices of any formats in one launch, each wave a few rows
// (step_args.hpp).
#include "include/step_rows.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave, class Block, int kColumns>
RF_DEVICE void project_rows(const StepProjectArgs& a, std::uint32_t* staging, const StepMatrix& m,
                            int first, int y_begin) {
  constexpr int kRows = step_project_rows(kColumns);
  constexpr int kAtOnce = rows_at_once<kWave, Block, kColumns>(kRows);
  const auto columns = StepColumns<kColumns>::template of<Block>(a.in);
  StepSquares<kWave> squares;
  if constexpr (kColumns == 1) squares.load(a.in, columns.index(0));
  const auto row_of = [&](int pass, int r) {
    const int row = first + pass * kAtOnce + r;
    return offset_bytes(m.w, (row < m.rows ? row : m.rows - 1) * m.row_bytes);
  };
  const auto emit = [&](int pass, const float(&sums)[kAtOnce][kColumns]) {
    RF_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      if constexpr (kColumns > 1) squares.load(a.in, columns.index(c));
      const float scale = squares.scale(a.in);
      RF_UNROLL
      for (int r = 0; r < kAtOnce; ++r) {
        const int row = first + pass * kAtOnce + r;
        if (thread_index() % kWave != 0 || row >= m.rows || !columns.has(c)) continue;
        const float bias = a.bias ? a.bias[y_begin + row] : 0.0f;
        a.y[std::int64_t{columns.first + c} * a.y_stride + y_begin + row] =
            sums[r][c] * scale + bias;
      }
    }
  };
  multiply_rows<kWave, Block, kAtOnce, kColumns>(staging, kRows / kAtOnce, row_of, columns.x,
                                                 a.in.k, emit);
}

template <int kWave, int kColumns>
RF_DEVICE void step_project(const StepProjectArgs& a) {
  constexpr int kRows = step_project_rows(kColumns);
  constexpr int kBlockRows = step_project_block(kColumns, kWave);
  // For blocks of any of the formats.
  constexpr int kStaging = kWave * 16;
  RF_SHARED(Words4, staging, kThreads / kWave * kStaging / 4);
  int block = block_x(), y_begin = 0;
  StepMatrix m = a.first;
  for (int i = 1; i < 3; ++i) {
    const int blocks = (m.rows + kBlockRows - 1) / kBlockRows;
    if (block < blocks) break;
    block -= blocks;
    y_begin += m.rows;
    m = i == 1 ? a.second : a.third;
  }
  const int wave = uniform(thread_index() / kWave), first = block * kBlockRows + wave * kRows;
  if (first >= m.rows) return;
  switch (m.format) {
#define RF_STEP_FORMAT(name, id, Block, activation)                                          \
  case id:                                                                                   \
    static_assert(staging_words<kWave, quant::Block>() <= kStaging);                         \
    return project_rows<kWave, quant::Block, kColumns>(a, staging[wave * kStaging / 4].v, m, \
                                                       first, y_begin);
#include "include/step_formats.def"
#undef RF_STEP_FORMAT
  }
}

}  // namespace

#define RF_STEP_PROJECT(columns) \
  RF_KERNEL_VARIANT(step_project, c##columns, StepProjectArgs, step_project, columns)
RF_STEP_PROJECT(1)
RF_STEP_PROJECT(4)
RF_EXPECT("step_project_*", 192, dot4, load16)

}  // namespace rocmforge::gpu
