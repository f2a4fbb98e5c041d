#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "cpu/kernels.hpp"
#include "reference_blocks.hpp"

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

// One call of a kernel: block b of the sequence is block (blocks - 1 - b), row r sees `seen - r`
// positions.
struct Run {
  Memory q, maximum, sum, y, scratch;
  std::vector<std::int32_t> table, seen;

  Run(const Sizes& s, std::int64_t scratch_bytes)
      : q(s.rows * s.head_dim * kFloat),
        maximum(s.rows * kFloat),
        sum(s.rows * kFloat),
        y(s.rows * cpu::attend_stride(s.value_dim) * kFloat),
        scratch(scratch_bytes) {
    for (std::int64_t b = num_blocks(s); b > 0; --b)
      table.push_back(static_cast<std::int32_t>(b - 1));
    for (std::int64_t r = 0; r < s.rows; ++r)
      seen.push_back(static_cast<std::int32_t>(std::max<std::int64_t>(1, s.seen - r)));
  }

  void attend(cpu::AttendFn kernel, const Sizes& s, const Memory& keys,
              const Memory& values) const {
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
    kernel(args);
  }
  float value(const Sizes& s, std::int64_t row, std::int64_t i) const {
    return y.floats()[row * cpu::attend_stride(s.value_dim) + i];
  }

  static std::int64_t num_blocks(const Sizes& s) {
    return (s.seen + s.block_size - 1) / s.block_size;
  }

 private:
  static constexpr std::int64_t kFloat = sizeof(float);
};

// Attention over keys of 0 (in every layout and type bytes of 0) and values of 2.
void check_average(const cpu::Kernels& k, KvType type, const Sizes& s, bool tiles) {
  const std::int64_t positions = Run::num_blocks(s) * s.block_size;
  const std::int64_t key_bytes = positions * kv_row_bytes(type, s.head_dim);
  const std::int64_t row = kv_row_bytes(type, s.value_dim);
  const Memory keys(key_bytes), values(positions * row);
  std::fill(keys.bytes(), keys.bytes() + key_bytes, std::byte{0});
  const std::vector<float> two(static_cast<std::size_t>(s.value_dim), 2.0f);
  for (std::int64_t p = 0; p < positions; ++p)
    k.store_kv[static_cast<int>(type)](values.bytes() + p * row, two.data(), s.value_dim);

  const Run run(s, tiles ? k.attend_tiles.scratch_bytes(s.head_dim, s.value_dim)
                         : cpu::attend_scratch_bytes(s.head_dim, s.value_dim));
  std::fill_n(run.q.floats(), s.rows * s.head_dim, 1.0f);
  run.attend((tiles ? k.attend_tiles.attend : k.attend)[static_cast<int>(type)], s, keys, values);

  // 127 * float16(2 / 127), which bfloat16 rounds to 2.
  const double tolerance = type == KvType::kQ8_0 ? 2e-3 : 1e-5;
  for (std::int64_t r = 0; r < s.rows; ++r) {
    CHECK(run.maximum.floats()[r] == 0.0f);
    CHECK(run.sum.floats()[r] == static_cast<float>(run.seen[static_cast<std::size_t>(r)]));
    for (std::int64_t i = 0; i < s.value_dim; ++i)
      CHECK(run.value(s, r, i) / run.sum.floats()[r] == doctest::Approx(2.0).epsilon(tolerance));
  }
}

// What a row of a cache holds, from its bytes.
std::vector<double> decoded(KvType type, const std::byte* row, std::int64_t n) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(row);
  std::vector<double> values;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::string_view format = type == KvType::kF16    ? "F16"
                                    : type == KvType::kBf16 ? "BF16"
                                    : type == KvType::kF32  ? "F32"
                                                            : "Q8_0";
    const std::int64_t at = type == KvType::kQ8_0 ? i / 32 * 34 : i * kv_row_bytes(type, 1);
    values.push_back(test::reference_weight(format, bytes + at, static_cast<int>(i % 32)).value);
  }
  return values;
}

// Where byte `byte` of a key lies in a group of 16 interleaved ones.
std::int64_t interleaved(KvType type, std::int64_t byte, std::int64_t lane) {
  if (type != KvType::kQ8_0) {
    const std::int64_t size = kv_row_bytes(type, 1);
    return (byte / size * cpu::kKvLanes + lane) * size + byte % size;
  }
  const std::int64_t block = byte / 34 * 34 * cpu::kKvLanes, at = byte % 34;
  return block + (at < 2 ? lane * 2 + at : at * cpu::kKvLanes + lane);
}

// Random keys and values in a cache, and what they are there.
struct RandomCache {
  Memory keys, values;
  std::vector<std::vector<double>> exact_keys, exact_values;  // by position

  RandomCache(KvType type, const Sizes& s)
      : keys(Run::num_blocks(s) * s.block_size * kv_row_bytes(type, s.head_dim)),
        values(Run::num_blocks(s) * s.block_size * kv_row_bytes(type, s.value_dim)) {
    const auto store = cpu::kernels_for(cpu::Isa::kScalar).store_kv[static_cast<int>(type)];
    const std::int64_t key_row = kv_row_bytes(type, s.head_dim);
    std::memset(keys.bytes(), 0,
                static_cast<std::size_t>(Run::num_blocks(s) * s.block_size * key_row));
    std::mt19937 random(static_cast<unsigned>(s.rows * 1000 + s.seen));
    std::normal_distribution<float> normal;
    std::vector<float> x(static_cast<std::size_t>(std::max(s.head_dim, s.value_dim)));
    std::vector<std::byte> row(static_cast<std::size_t>(key_row));
    for (std::int64_t p = 0; p < s.seen; ++p) {
      const std::int64_t block = Run::num_blocks(s) - 1 - p / s.block_size;
      const std::int64_t slot = block * s.block_size + p % s.block_size;
      for (float& v : x) v = normal(random);
      store(row.data(), x.data(), s.head_dim);
      exact_keys.push_back(decoded(type, row.data(), s.head_dim));
      const bool grouped = cpu::keys_are_interleaved(s.block_size);
      const std::int64_t lane = grouped ? slot % cpu::kKvLanes : 0;
      for (std::int64_t b = 0; b < key_row; ++b)
        keys.bytes()[(slot - lane) * key_row + (grouped ? interleaved(type, b, lane) : b)] =
            row[static_cast<std::size_t>(b)];
      for (float& v : x) v = normal(random);
      std::byte* to = values.bytes() + slot * kv_row_bytes(type, s.value_dim);
      store(to, x.data(), s.value_dim);
      exact_values.push_back(decoded(type, to, s.value_dim));
    }
  }
};

// Against float64, with the bound that tests/ops/paged_attention.py derives.
void check_exact(const cpu::Kernels& k, KvType type, const Sizes& s) {
  const RandomCache cache(type, s);
  const Run run(s, cpu::attend_scratch_bytes(s.head_dim, s.value_dim));
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  for (std::int64_t i = 0; i < s.rows * s.head_dim; ++i)
    run.q.floats()[i] = normal(random) / std::sqrt(static_cast<float>(s.head_dim));
  run.attend(k.attend[static_cast<int>(type)], s, cache.keys, cache.values);

  constexpr double kEps = 0x1p-23;
  double worst = 0;
  for (std::int64_t r = 0; r < s.rows; ++r) {
    std::vector<double> weights;
    double total = 0, largest = 0;
    const auto n = static_cast<std::size_t>(run.seen[static_cast<std::size_t>(r)]);
    for (std::size_t p = 0; p < n; ++p) {
      double score = 0, size = 0;
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        const double product =
            run.q.floats()[r * s.head_dim + d] * cache.exact_keys[p][static_cast<std::size_t>(d)];
        score += product;
        size += std::abs(product);
      }
      weights.push_back(std::exp(score));
      total += weights.back();
      largest = std::max(largest, size);
    }
    const double relative =
        (2 * (double(s.head_dim) + 2) * largest + double(n) + double(n) / 64 + 20) * kEps;
    for (std::int64_t i = 0; i < s.value_dim; ++i) {
      double expected = 0, highest = 0;
      for (std::size_t p = 0; p < n; ++p) {
        const double v = cache.exact_values[p][static_cast<std::size_t>(i)];
        expected += weights[p] * v / total;
        highest = std::max(highest, std::abs(v));
      }
      const double got = double(run.value(s, r, i)) / run.sum.floats()[r];
      const double error = std::abs(got - expected) / (relative * highest + 0x1p-149);
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
  }
  INFO("cache type ", int(type), " at ", std::string(cpu::name(k.isa)), " rows ", s.rows, " seen ",
       s.seen, " block size ", s.block_size);
  CHECK(worst <= 1.0);
}

}  // namespace

TEST_CASE("attention matches float64 at every level") {
  for (const cpu::Isa isa : cpu::available_isas()) {
    const cpu::Kernels k = cpu::kernels_for(isa);
    for (int type = 0; type < kNumKvTypes; ++type)
      for (const std::int64_t rows : {1, 3, 8, 21})
        for (const std::int64_t block_size : {16, 5})
          for (const std::int64_t seen : {1, 33, 130}) {
            check_exact(k, static_cast<KvType>(type), {rows, 32, 64, block_size, seen});
            if (static_cast<KvType>(type) != KvType::kQ8_0)
              check_exact(k, static_cast<KvType>(type), {rows, 9, 19, block_size, seen});
          }
  }
}

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
