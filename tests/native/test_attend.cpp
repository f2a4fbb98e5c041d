#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

#include "cpu/kernels.hpp"

using namespace rocmforge;

namespace {

// Of exactly that size, so that a sanitizer sees a byte read or written beyond it.
class Memory {
 public:
  explicit Memory(std::int64_t bytes)
      : data_(static_cast<std::byte*>(
            ::operator new(static_cast<std::size_t>(bytes), std::align_val_t{64}))) {}
  ~Memory() { ::operator delete(data_, std::align_val_t{64}); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::byte* bytes() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }

 private:
  std::byte* data_;
};

struct Sizes {
  std::int64_t rows, head_dim, value_dim, block_size, seen;
};

// Attention over keys of 0 (in every layout and type bytes of 0) and values of 2.
void check_average(const cpu::Kernels& k, KvType type, const Sizes& s, bool tiles) {
  const std::int64_t blocks = (s.seen + s.block_size - 1) / s.block_size;
  const std::int64_t key_bytes = blocks * s.block_size * kv_row_bytes(type, s.head_dim);
  const std::int64_t row = kv_row_bytes(type, s.value_dim);
  const Memory keys(key_bytes), values(blocks * s.block_size * row);
  std::fill(keys.bytes(), keys.bytes() + key_bytes, std::byte{0});
  const std::vector<float> two(static_cast<std::size_t>(s.value_dim), 2.0f);
  for (std::int64_t p = 0; p < blocks * s.block_size; ++p)
    k.store_kv[static_cast<int>(type)](values.bytes() + p * row, two.data(), s.value_dim);

  constexpr std::int64_t kFloat = sizeof(float);
  const Memory q(s.rows * s.head_dim * kFloat), maximum(s.rows * kFloat), sum(s.rows * kFloat);
  const Memory y(s.rows * cpu::attend_stride(s.value_dim) * kFloat);
  const Memory scratch(tiles ? k.attend_tiles.scratch_bytes(s.head_dim, s.value_dim)
                             : cpu::attend_scratch_bytes(s.head_dim, s.value_dim));
  std::fill_n(q.floats(), s.rows * s.head_dim, 1.0f);
  std::vector<std::int32_t> table(static_cast<std::size_t>(blocks)), seen;
  for (std::int64_t b = 0; b < blocks; ++b)
    table[static_cast<std::size_t>(b)] = static_cast<std::int32_t>(blocks - 1 - b);
  for (std::int64_t r = 0; r < s.rows; ++r)
    seen.push_back(static_cast<std::int32_t>(std::max<std::int64_t>(1, s.seen - r)));

  cpu::AttendArgs args{};
  args.values = y.floats();
  args.maximum = maximum.floats();
  args.sum = sum.floats();
  args.q = q.floats();
  args.seen = seen.data();
  args.block_table = table.data();
  args.k_base = keys.bytes();
  args.v_base = values.bytes();
  args.block_size = s.block_size;
  args.rows = s.rows;
  args.end = args.stored = s.seen;
  args.head_dim = s.head_dim;
  args.value_dim = s.value_dim;
  args.scratch = scratch.bytes();
  (tiles ? k.attend_tiles.attend : k.attend)[static_cast<int>(type)](args);

  // 127 * float16(2 / 127), which bfloat16 rounds to 2.
  const double tolerance = type == KvType::kQ8_0 ? 2e-3 : 1e-5;
  for (std::int64_t r = 0; r < s.rows; ++r) {
    CHECK(maximum.floats()[r] == 0.0f);
    CHECK(sum.floats()[r] == static_cast<float>(seen[static_cast<std::size_t>(r)]));
    for (std::int64_t i = 0; i < s.value_dim; ++i)
      CHECK(y.floats()[r * cpu::attend_stride(s.value_dim) + i] / sum.floats()[r] ==
            doctest::Approx(2.0).epsilon(tolerance));
  }
}

}  // namespace

TEST_CASE("attention stays within its buffers and averages values under equal scores") {
  for (const cpu::Isa isa : cpu::available_isas()) {
    const cpu::Kernels k = cpu::kernels_for(isa);
    for (int type = 0; type < kNumKvTypes; ++type)
      for (const std::int64_t rows : {1, 4, 7, 8, 13, 33, 128})
        for (const std::int64_t block_size : {16, 5, 32})
          for (const std::int64_t seen : {1, 16, 33, 64, 70}) {
            check_average(k, static_cast<KvType>(type), {rows, 64, 96, block_size, seen}, false);
            if (static_cast<KvType>(type) != KvType::kQ8_0)
              check_average(k, static_cast<KvType>(type), {rows, 9, 19, block_size, seen}, false);
          }
  }
}

TEST_CASE("attention in matrix tiles stays within its buffers and averages values") {
  for (const cpu::Isa isa : cpu::available_isas()) {
    const cpu::Kernels k = cpu::kernels_for(isa);
    if (!k.attend_tiles.scratch_bytes) continue;
    for (int type = 0; type < kNumKvTypes; ++type)
      for (const std::int64_t rows : {1, 15, 16, 17, 33, 48, 100, 128})
        for (const std::int64_t block_size : {16, 32})
          for (const std::int64_t seen : {1, 16, 33, 64, 70, 200}) {
            check_average(k, static_cast<KvType>(type), {rows, 64, 96, block_size, seen}, true);
            if (static_cast<KvType>(type) != KvType::kQ8_0)
              check_average(k, static_cast<KvType>(type), {rows, 9, 48, block_size, seen}, true);
          }
  }
}
