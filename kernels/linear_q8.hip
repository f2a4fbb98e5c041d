// y = W x for a few columns x in 8 bits: a wave a row, a lane every kWave-th chunk of it, integer
// dot products of 16, float32 sums. Memory bound: reads the weights once for kColumns columns.
//
// Rounding, over B = k / 16 pieces of S = sum |w| |x| (dequantized; a min counts apart from its
// quant): a piece rounds four times, a lane adds its pieces one after the other, lanes are added
// in a tree: |error| <= (B / kWave * ... pieces of a lane + 10) * 2^-24 * S.
#include "include/chunks.hpp"
#include "include/linear_args.hpp"

namespace rocmforge::gpu {
namespace {

// One piece of weights times 16 quants of a column.
template <class Type>
RF_DEVICE float multiply_piece(const Type& chunk, int p, bool has_min, const char* x, int k,
                               int position) {
  const Words4 q = load16(x + position);
  const auto* scales = reinterpret_cast<const Q8Scale*>(x + k);
  const Q8Scale s = scales[position / 32];
  int dot = 0;
  for (int i = 0; i < 4; ++i) dot = dot4(chunk.q[p][i], q.v[i], dot);
  float product = static_cast<float>(dot) * chunk.scale[p];
  if (has_min) {
    const int sum = position % 32 == 0 ? s.low_sum : s.high_sum;
    product -= static_cast<float>(sum) * chunk.min[p];
  }
  return product * s.d;
}

template <int kWave, class Block, int kColumns>
RF_DEVICE void linear_q8(const LinearArgs& a) {
  using Parts = Chunks<Block>;
  using Type = typename Parts::Type;
  constexpr int kWeights = quant::BlockTraits<Block>::kWeights;
  constexpr bool kMins = sizeof(Type) > sizeof(Chunk<Parts::kPieces, false>);

  const LinearRow<kWave, kColumns> row(a);
  if (!row.any) return;
  float sums[kColumns] = {};
  const int num_chunks = a.k / kWeights * Parts::kPerBlock;
  for (int i = thread_index() % kWave; i < num_chunks; i += kWave) {
    const int block = i / Parts::kPerBlock, c = i % Parts::kPerBlock;
    const Type chunk = Parts::load(static_cast<const Block*>(row.weights) + block, c);
    for (int column = 0; column < kColumns; ++column)
      for (int p = 0; p < Parts::kPieces; ++p)
        sums[column] += multiply_piece(chunk, p, kMins, row.columns[column], a.k,
                                       block * kWeights + Parts::offset(c, p));
  }
  row.store(a, sums);
}

}  // namespace

#define RF_LINEAR_Q8(name, Block, columns) \
  RF_KERNEL_VARIANT(linear_q8, name##_c##columns, LinearArgs, linear_q8, quant::Block, columns)
#define RF_LINEAR_Q8_kQ8x32(name, Block) \
  RF_LINEAR_Q8(name, Block, 1)           \
  RF_LINEAR_Q8(name, Block, 4)           \
  RF_LINEAR_Q8(name, Block, 8)
#define RF_LINEAR_Q8_kFloat(name, Block)
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  RF_LINEAR_Q8_##activation(name, Block)
#include "quant/formats.def"
#undef RF_FORMAT
RF_EXPECT(linear_q8, 128, dot4, load16)

}  // namespace rocmforge::gpu
