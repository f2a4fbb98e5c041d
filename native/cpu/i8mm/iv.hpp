// Iv, Dot and TileDots (cpu/panel/multiply_body.hpp) of NEON with matrix products of bytes.
//
// SMMLA multiplies two rows of eight weights with two columns of eight activations, twice the
// products of SDOT; so the codes of two groups lie together and columns go in pairs. Codes straight
// from memory would need as many instructions to be brought together as are saved for up to two
// columns: few columns use SDOT.
#pragma once

#include "cpu/dotprod/dot.hpp"
#include "cpu/unrolled.hpp"
#include "quant/activations.hpp"

namespace rocmforge::cpu {
namespace {

struct Iv : DotLanes {
  static constexpr int kManyGroup = 2;  // times two units: 8 sums of integers, 8 of floats
};

// [pair of groups][row][eight weights]
template <class Groups>
[[gnu::always_inline]] inline void store_groups(std::uint8_t (*to)[4 * Iv::kLanes], Groups groups) {
  unrolled<4>([&]<int i>() {
    const Iv::Bytes even = groups.template operator()<2 * i>();
    const Iv::Bytes odd = groups.template operator()<2 * i + 1>();
    const auto put = [](std::uint8_t* rows, uint8x16_t left, uint8x16_t right) {
      const uint32x4_t l = vreinterpretq_u32_u8(left), r = vreinterpretq_u32_u8(right);
      vst1q_u8(rows, vreinterpretq_u8_u32(vzip1q_u32(l, r)));
      vst1q_u8(rows + 16, vreinterpretq_u8_u32(vzip2q_u32(l, r)));
    };
    put(to[2 * i], even.a, odd.a);
    put(to[2 * i + 1], even.b, odd.b);
  });
}

// kBias is zero: codes of kAnyByte and kSignedBytes have no offset.
template <int kUnits, int kBias, int kMaxCode, int kGroups, int C>
struct TileDots {
  static_assert(kBias == 0 && C <= 2);
  int32x4_t sums[kUnits][4];  // of two rows: {row 0, row 1} x {column 0, column 1}

  // Of the i-th scale of a step. A single column is a pair with itself.
  template <int i>
  [[gnu::always_inline]] void compute(const std::uint8_t (*w)[8][4 * Iv::kLanes],
                                      const quant::BlockQ8x32* x) {
    unrolled<kUnits>([&]<int u>() __attribute__((always_inline)) {
      unrolled<4>([&]<int r>() __attribute__((always_inline)) { sums[u][r] = vdupq_n_s32(0); });
    });
    unrolled<kGroups / 4>([&]<int j>() __attribute__((always_inline)) {  // sixteen weights of a row
      const int64x2_t first = vreinterpretq_s64_s8(vld1q_s8(x[0].qs + 4 * i * kGroups + 16 * j));
      const int64x2_t second =
          vreinterpretq_s64_s8(vld1q_s8(x[C - 1].qs + 4 * i * kGroups + 16 * j));
      const int8x16_t columns[2] = {vreinterpretq_s8_s64(vzip1q_s64(first, second)),
                                    vreinterpretq_s8_s64(vzip2q_s64(first, second))};
      unrolled<2>([&]<int half>() __attribute__((always_inline)) {
        unrolled<kUnits>([&]<int u>() __attribute__((always_inline)) {
          const std::uint8_t* rows = w[u][i * kGroups + 4 * j + 2 * half];
          unrolled<4>([&]<int r>() __attribute__((always_inline)) {
            sums[u][r] =
                vmmlaq_s32(sums[u][r], vreinterpretq_s8_u8(vld1q_u8(rows + 16 * r)), columns[half]);
          });
        });
      });
    });
  }
  template <int u, int c>
  [[gnu::always_inline]] Iv::Ints dot() const {
    if constexpr (c == 0)
      return {vuzp1q_s32(sums[u][0], sums[u][1]), vuzp1q_s32(sums[u][2], sums[u][3])};
    else
      return {vuzp2q_s32(sums[u][0], sums[u][1]), vuzp2q_s32(sums[u][2], sums[u][3])};
  }
};

}  // namespace
}  // namespace rocmforge::cpu
