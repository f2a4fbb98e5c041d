// y = W x for a few columns of float activations, every format: a wave a row, each weight decoded
// by quant/blocks.hpp, products and sums in float32 FMAs. For F32, F16 and BF16 the way to decode;
// for the quantized formats the reference of the integer products.
//
// |error| <= (k / kWave + 8) * 2^-24 * sum |w x|: a lane's chain of FMAs, then a tree.
#include "include/linear_args.hpp"

namespace rocmforge::gpu {
namespace {

// Neighbouring weights a lane decodes at once: of a quantized format those that share a scale, else
// 16 bytes.
template <class Block>
constexpr int kRun = quant::BlockTraits<Block>::kWeights > 1 ? 16 : 16 / sizeof(Block);

template <class Block>
RF_DEVICE void decode_run(float* w, const void* row, int i, bool aligned) {
  constexpr int kWeights = quant::BlockTraits<Block>::kWeights;
  if constexpr (kWeights > 1) {
    const Block& block = *block_of<Block>(row, i / kWeights);
    for (int j = 0; j < kRun<Block>; ++j) w[j] = quant::decode(block, i % kWeights + j);
  } else if (aligned) {
    const Words4 words = load16(block_of<Block>(row, i));
    Block values[kRun<Block>];
    std::memcpy(values, &words, sizeof words);
    for (int j = 0; j < kRun<Block>; ++j) w[j] = quant::decode(values[j], 0);
  } else {
    for (int j = 0; j < kRun<Block>; ++j) w[j] = quant::decode(*block_of<Block>(row, i + j), 0);
  }
}

template <int kWave, class Block, int kColumns>
RF_DEVICE void linear_float(const LinearArgs& a) {
  constexpr int kCount = kRun<Block>;
  if (!LinearRow<kWave, kColumns>::exists(a)) return;
  const LinearRow<kWave, kColumns> row(a);
  const bool aligned = a.row_bytes % 16 == 0;
  float sums[kColumns] = {};
  for (int i = thread_index() % kWave * kCount; i < a.k; i += kWave * kCount) {
    if (quant::BlockTraits<Block>::kWeights > 1 || i + kCount <= a.k) {
      float w[kCount];
      decode_run<Block>(w, row.weights, i, aligned);
      for (int c = 0; c < kColumns; ++c) {
        for (int j = 0; j < kCount; j += 4) {
          const Words4 x = load16(row.columns[c] + (i + j) * 4);
          for (int n = 0; n < 4; ++n)
            sums[c] = fma(w[j + n], quant::float_of_bits(x.v[n]), sums[c]);
        }
      }
    } else {
      for (int j = i; j < a.k; ++j) {
        const float w = decode_weight<Block>(row.weights, j);
        for (int c = 0; c < kColumns; ++c)
          sums[c] = fma(w, reinterpret_cast<const float*>(row.columns[c])[j], sums[c]);
      }
    }
  }
  row.store(a, sums);
}

}  // namespace

#define RF_LINEAR_FLOAT(name, Block, columns)                                                \
  RF_KERNEL_VARIANT(linear_float, name##_c##columns, LinearArgs, linear_float, quant::Block, \
                    columns)
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  RF_LINEAR_FLOAT(name, Block, 1)                              \
  RF_LINEAR_FLOAT(name, Block, 4)                              \
  RF_LINEAR_FLOAT(name, Block, 8)
#include "quant/formats.def"
#undef RF_FORMAT
RF_EXPECT("linear_float_*_c1", 96, load16)
RF_EXPECT("linear_float_*", 128, load16)

}  // namespace rocmforge::gpu
