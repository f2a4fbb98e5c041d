// y = W x for a few columns x in 8 bits: a wave a row, a lane every kWave-th chunk of it, integer
// dot products of 16, float32 sums. Memory bound: reads the weights once for kColumns columns.
//
// Rounding, of S = sum |w| |x| (dequantized; a min counts apart from its quant): a piece rounds six
// times, a chunk adds its pieces, a lane its chunks, then come a tree of lanes:
// |error| <= (chunks of a lane + 20) * 2^-24 * S.
#include "include/chunks.hpp"
#include "include/linear_args.hpp"

namespace rocmforge::gpu {
namespace {

// A chunk times the quants of a column from `position` on. Addresses are a scalar base, a 32-bit
// offset of the lane and a constant of the piece: anything else costs two registers a load, also
// what the compiler would make of them across columns and iterations (hence opaque()).
template <class Parts, class Type>
RF_DEVICE float multiply_chunk(const Type& chunk, const char* x, unsigned k, unsigned position) {
  constexpr bool kMins = sizeof(Type) > sizeof(Chunk<Parts::kPieces, false>);
  const char* quants = x + position;
  const char* scales = x + (k + position / 32 * sizeof(Q8Scale));
  const char* sums = x + (k + position / 32 * sizeof(Q8Scale) + 4 + position % 32 / 8);
  float sum = 0.0f;
  for (int p = 0; p < Parts::kPieces; ++p) {
    const int offset = Parts::offset(0, p);  // of a piece from the chunk's first one
    const int scale_offset = offset / 32 * static_cast<int>(sizeof(Q8Scale));
    const Words4 q = load16(quants + offset);
    const float d = *reinterpret_cast<const float*>(scales + scale_offset);
    int dot = 0;
    for (int i = 0; i < 4; ++i) dot = dot4(chunk.q[p][i], q.v[i], dot);
    float product = static_cast<float>(dot) * chunk.scale[p];
    if constexpr (kMins) {
      const std::int16_t quant_sum =
          *reinterpret_cast<const std::int16_t*>(sums + scale_offset + offset % 32 / 8);
      product -= static_cast<float>(quant_sum) * chunk.min[p];
    }
    sum += product * d;
  }
  return sum;
}

template <int kWave, class Block, int kColumns>
RF_DEVICE void linear_q8(const LinearArgs& a) {
  using Parts = Chunks<Block>;
  constexpr int kWeights = quant::BlockTraits<Block>::kWeights;

  if (!LinearRow<kWave, kColumns>::exists(a)) return;
  const LinearRow<kWave, kColumns> row(a);
  float sums[kColumns] = {};
  const int num_chunks = a.k / kWeights * Parts::kPerBlock;
  for (int i = thread_index() % kWave; i < num_chunks; i += kWave) {
    const int block = i / Parts::kPerBlock, c = i % Parts::kPerBlock;
    const auto chunk = Parts::load(static_cast<const Block*>(row.weights) + block, c);
    const unsigned position = block * kWeights + Parts::offset(c, 0);
    for (int column = 0; column < kColumns; ++column) {
      sums[column] += multiply_chunk<Parts>(chunk, row.columns[column], a.k, opaque(position));
      // Loads of two columns in flight (of eight, two pieces): of all they take up to 192
      // registers.
      if (kColumns == 8 || column % 2 == 1) scheduling_fence();
    }
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
RF_EXPECT("linear_q8_*_c1", 96, dot4, load16)
RF_EXPECT("linear_q8_*", 128, dot4, load16)

}  // namespace rocmforge::gpu
