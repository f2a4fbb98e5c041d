// The residual stream as the first product of a layer wants it (step_args.hpp), where no stage
// before has made it so.
#include "include/step_output.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void step_input(const StepInputArgs& a) {
  const std::int64_t column = block_x();
  const int i = block_y() * static_cast<int>(kRowPiece) + thread_index() * 4;
  float v[4] = {};
  if (i < a.n) load_four(v, a.x + column * a.n + i);
  store_step_output<kWave>(a.out, column, a.n, i, v, i < a.n);
}

}  // namespace

RF_KERNEL_WAVES(step_input, StepInputArgs, step_input)
RF_EXPECT("step_input", 48, load16)

}  // namespace rocmforge::gpu
