// How the SIMD kernels keep a matrix: 16 rows interleaved in a panel, so that a vector holds the
// same weights of 16 rows and a sum per lane needs no horizontal addition.
//
// A panel is a run of chunks of 256 weights of each row (the last one as short as the row wants, in
// steps of 32), a chunk a header and its steps:
//   header  K-quants: f16 d[16], then f16 dmin[16] where the format has mins
//   step    32 weights of each row: codes, the upper bits of codes, scales
// Codes are unsigned: a weight's integer plus kBias, or an index into a table of 16 integers. Four
// weights of a row lie in a word of 32 bits and a group is the words of the 16 rows, 64 bytes; a
// step has eight groups g. Of codes of b = 2 or 4 low bits, 8 / b groups share a plane of 64 bytes:
// group g has the bits b * (g % (8 / b)) of each byte of plane g / (8 / b). Of upper bits, all
// groups share one plane if it is one bit (bit g), four if it is two. Float formats keep a row of
// 16 values per weight instead.
//
// A panel has the size of its rows in the file, but for the 6-bit scales of Q3_K, Q4_K and Q5_K,
// kept as bytes (at most 3.7 % more). Rows beyond the matrix are zeros.
#pragma once

#include <cstdint>

#include "cpu/kernels.hpp"
#include "quant/blocks.hpp"

namespace rocmforge::cpu {
namespace {

constexpr std::int64_t kPanelStep = 32;
constexpr std::int64_t kPanelChunk = 256;
constexpr std::int64_t kChunkSteps = kPanelChunk / kPanelStep;

// What follows the codes of a step; S = 1 or 2 scales a row.
enum class PanelScales {
  kNone,
  kHalf,        // f16 d[16]
  kHalfAndMin,  // f16 d[16], f16 m[16]
  kE8M0,        // u8 e[16]
  kSigned,      // s8 scale[S][16], times the header's d
  kBytes,       // u8 scale[S][16], u8 min[S][16], times the header's d and dmin
  kNibbles,     // u8 [S][16]: scale in the low nibble, min in the high one
};

template <int kLow, int kHigh, int kBiasOf, PanelScales kScalesOf, int kScaleCount = 1,
          bool kTable = false>
struct PanelLayout {
  static constexpr int kLowBits = kLow;
  static constexpr int kHighBits = kHigh;
  static constexpr int kBias = kBiasOf;  // zero or a power of two
  static constexpr bool kIsTable = kTable;
  static constexpr PanelScales kScales = kScalesOf;
  static constexpr int kNumScales = kScaleCount;  // of a row in a step
  static constexpr bool kIsFloat = kScales == PanelScales::kNone;
  static constexpr bool kHasMin = kScales == PanelScales::kHalfAndMin ||
                                  kScales == PanelScales::kBytes ||
                                  kScales == PanelScales::kNibbles;
  static constexpr bool kHasHeader = kScales == PanelScales::kSigned ||
                                     kScales == PanelScales::kBytes ||
                                     kScales == PanelScales::kNibbles;
  // Of an integer with its offset.
  static constexpr int kMaxCode =
      kTable ? 2 * kBiasOf - 1 : (1 << (kLow + kHigh > 8 ? 8 : kLow + kHigh)) - 1;

  static constexpr std::int64_t kLowBytes = kLow * kPanelStep * kPanelRows / 8;
  static constexpr std::int64_t kHighBytes = kHigh * kPanelStep * kPanelRows / 8;
  static constexpr std::int64_t kScalesAt = kLowBytes + kHighBytes;
  static constexpr std::int64_t kScaleBytes = kScales == PanelScales::kNone         ? 0
                                              : kScales == PanelScales::kHalf       ? 2 * kPanelRows
                                              : kScales == PanelScales::kHalfAndMin ? 4 * kPanelRows
                                              : kScales == PanelScales::kBytes
                                                  ? 2 * kScaleCount * kPanelRows
                                                  : kScaleCount * kPanelRows;
  static constexpr std::int64_t kStepBytes = kScalesAt + kScaleBytes;
  static constexpr std::int64_t kHeaderBytes = !kHasHeader ? 0
                                               : kHasMin   ? 4 * kPanelRows
                                                           : 2 * kPanelRows;
  static constexpr std::int64_t kChunkBytes = kHeaderBytes + kChunkSteps * kStepBytes;

  static constexpr std::int64_t bytes(std::int64_t k) {
    const std::int64_t steps = (k + kPanelStep - 1) / kPanelStep;
    return steps * kStepBytes + (steps + kChunkSteps - 1) / kChunkSteps * kHeaderBytes;
  }
};

template <class Block>
struct PanelOf;
template <>
struct PanelOf<quant::BlockF32> : PanelLayout<32, 0, 0, PanelScales::kNone> {};
template <>
struct PanelOf<quant::BlockF16> : PanelLayout<16, 0, 0, PanelScales::kNone> {};
template <>
struct PanelOf<quant::BlockBF16> : PanelLayout<16, 0, 0, PanelScales::kNone> {};
template <>
struct PanelOf<quant::BlockQ4_0> : PanelLayout<4, 0, 8, PanelScales::kHalf> {};
template <>
struct PanelOf<quant::BlockQ4_1> : PanelLayout<4, 0, 0, PanelScales::kHalfAndMin> {};
template <>
struct PanelOf<quant::BlockQ5_0> : PanelLayout<4, 1, 16, PanelScales::kHalf> {};
template <>
struct PanelOf<quant::BlockQ5_1> : PanelLayout<4, 1, 0, PanelScales::kHalfAndMin> {};
template <>
struct PanelOf<quant::BlockQ8_0> : PanelLayout<8, 0, 128, PanelScales::kHalf> {};
template <>
struct PanelOf<quant::BlockIQ4_NL> : PanelLayout<4, 0, 128, PanelScales::kHalf, 1, true> {
  static constexpr int value(int code) { return quant::iq4_value(code); }
};
template <>
struct PanelOf<quant::BlockMXFP4> : PanelLayout<4, 0, 16, PanelScales::kE8M0, 1, true> {
  static constexpr int value(int code) { return quant::e2m1_doubled(code); }
};
template <>
struct PanelOf<quant::BlockQ2_K> : PanelLayout<2, 0, 0, PanelScales::kNibbles, 2> {};
template <>
struct PanelOf<quant::BlockQ3_K> : PanelLayout<2, 1, 4, PanelScales::kSigned, 2> {};
template <>
struct PanelOf<quant::BlockQ4_K> : PanelLayout<4, 0, 0, PanelScales::kBytes> {};
template <>
struct PanelOf<quant::BlockQ5_K> : PanelLayout<4, 1, 0, PanelScales::kBytes> {};
template <>
struct PanelOf<quant::BlockQ6_K> : PanelLayout<4, 2, 32, PanelScales::kSigned, 2> {};
template <>
struct PanelOf<quant::BlockIQ4_XS> : PanelLayout<4, 0, 128, PanelScales::kSigned, 1, true> {
  static constexpr int value(int code) { return quant::iq4_value(code); }
};

// Columns are packed in groups (PanelFns::group), chunk by chunk: [chunk][group][step][column of
// the group], an activation block (quant/activations.hpp) each; of a float format
// [chunk][group][weight] [column of the group], a float each. What lies beyond the row's length or
// the last column of few or of tiles, whose groups are all full, is zero.
constexpr std::int64_t packed_columns(std::int64_t columns, std::int64_t group) {
  const bool full = columns <= kFewColumns || group == kPanelTileColumns;
  return full ? (columns + group - 1) / group * group : columns;
}

// Of a group that begins with `first_column`; in blocks, or in runs of 32 floats. `steps` are those
// of the chunk, `columns` the packed ones.
constexpr std::int64_t columns_offset(std::int64_t chunk, std::int64_t first_column,
                                      std::int64_t steps, std::int64_t columns) {
  return chunk * kChunkSteps * columns + first_column * steps;
}

constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

}  // namespace
}  // namespace rocmforge::cpu
