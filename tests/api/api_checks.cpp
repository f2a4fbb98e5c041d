// api_checks DEVICE: buffers, products, attention and the cache of one device against sums in
// double precision. Prints what does not hold and exits with its number.
#include <rocmforge/attention.hpp>
#include <rocmforge/buffer.hpp>
#include <rocmforge/decoder.hpp>
#include <rocmforge/device.hpp>
#include <rocmforge/index.hpp>
#include <rocmforge/kv_cache.hpp>
#include <rocmforge/matmul.hpp>

#include <cmath>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace api = rocmforge::api;
using Floats = std::vector<float>;

namespace {

int failures = 0;

void expect(bool ok, const std::string& what) {
  if (ok) return;
  ++failures;
  std::cout << what << '\n';
}

void expect_error(rocmforge::ErrorCode code, const std::string& what,
                  const std::function<void()>& call) {
  try {
    call();
  } catch (const rocmforge::Error& error) {
    return expect(error.code() == code, what + ": " + error.what());
  }
  expect(false, what + ": no error");
}

Floats random_floats(std::size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  Floats values(n);
  for (float& v : values) v = uniform(generator);
  return values;
}

double worst(const Floats& a, const std::vector<double>& b) {
  double most = a.size() == b.size() ? 0.0 : 1e9;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    most = std::max(most, std::isnan(a[i]) ? 1e9 : std::abs(a[i] - b[i]));
  return most;
}

void check_buffers(const api::Device& device) {
  api::Buffer buffer(device, 1000);
  std::vector<char> bytes(1000, 'x');
  buffer.read(bytes.data(), 1000);
  expect(bytes == std::vector<char>(1000), "a new buffer is not zero");
  buffer.write("device", 6, 500);
  const api::Buffer part = buffer.view(500, 6);
  part.read(bytes.data(), 6);
  expect(std::memcmp(bytes.data(), "device", 6) == 0, "a view has not what was written");
  const auto invalid = rocmforge::ErrorCode::kInvalidArgument;
  expect_error(invalid, "a view beyond the end", [&] { buffer.view(996, 5); });
  expect_error(invalid, "a read beyond a view's end", [&] { part.read(bytes.data(), 7); });
  expect_error(invalid, "a negative offset", [&] { buffer.write("a", 1, -1); });
  expect_error(invalid, "an empty buffer", [&] { api::Buffer(device, 0); });
}

// Q8_0 blocks of scale 1/128 and whole codes: the product of whole numbers up to 127 loses nothing
// to 8-bit activations whose blocks all hold a 127.
void check_products(const api::Device& device) {
  constexpr std::int64_t kRows = 37, kCols = 96, kCount = 5;
  struct Block {
    std::uint16_t scale;
    std::int8_t codes[32];
  };
  static_assert(sizeof(Block) == 34);
  std::mt19937 generator(7);
  std::vector<Block> blocks(kRows * kCols / 32);
  for (Block& b : blocks) {
    b.scale = 0x2000;  // 2^-7 as float16
    for (std::int8_t& c : b.codes) c = static_cast<std::int8_t>(generator() % 255 - 127);
  }
  Floats x(kCount * kCols);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = i % 32 == 0 ? 127.0f : static_cast<float>(static_cast<int>(generator() % 255) - 127);
  std::vector<double> expected;
  for (std::int64_t n = 0; n < kCount; ++n)
    for (std::int64_t r = 0; r < kRows; ++r) {
      double sum = 0.0;
      for (std::int64_t c = 0; c < kCols; ++c)
        sum += blocks[static_cast<std::size_t>((r * kCols + c) / 32)].codes[c % 32] / 128.0 *
               x[static_cast<std::size_t>(n * kCols + c)];
      expected.push_back(sum);
    }
  rocmforge::Tensor whole;
  whole.data = blocks.data();
  whole.format = rocmforge::quant::Format::kQ8_0;
  whole.rows = kRows;
  whole.cols = kCols;
  rocmforge::Tensor first = whole, second = whole;  // two parts, as gate and up are
  first.rows = 20;
  second.rows = kRows - 20;
  second.data = reinterpret_cast<const std::byte*>(whole.data) + 20 * whole.row_bytes();
  const rocmforge::Tensor parts[] = {first, second};
  api::Matrix matrix(device, parts, kCount);
  expect(matrix.rows() == kRows && matrix.cols() == kCols, "a matrix has other sizes");
  Floats y(expected.size());
  matrix.multiply(y, x);
  // Sums of 96 products below 127^2 / 128: 1e5 at most, in float32.
  expect(worst(y, expected) < 0.05, "a product is off by " + std::to_string(worst(y, expected)));

  const auto bytes = [](const Floats& v) { return static_cast<std::int64_t>(v.size() * 4); };
  api::Buffer there(device, bytes(x)), result(device, bytes(y));
  there.write(x.data(), bytes(x));
  matrix.multiply(result, there, kCount);
  Floats again(y.size());
  result.read(again.data(), bytes(again));
  expect(again == y, "a product in memory of the device differs");
  const auto invalid = rocmforge::ErrorCode::kInvalidArgument;
  expect_error(invalid, "too many rows", [&] {
    Floats more((kCount + 1) * kCols), out((kCount + 1) * kRows);
    matrix.multiply(out, more);
  });
  expect_error(invalid, "a short result", [&] { matrix.multiply({y.data(), 3}, x); });
  expect_error(invalid, "a small buffer", [&] { matrix.multiply(result, there, kCount + 1); });
  expect_error(invalid, "half a block", [&] {
    whole.cols = 80;
    api::Matrix(device, {&whole, 1}, 1);
  });
}

constexpr api::AttentionShape kShape{4, 2, 32, 32, 0.25f};

// Of one head; `seen` are the rows of k and v.
std::vector<double> attended(const float* q, const Floats& k, const Floats& v, int kv_head,
                             const std::vector<int>& seen) {
  std::vector<double> y(32, 0.0);
  double sum = 0.0;
  for (const int j : seen) {
    double score = 0.0;
    for (int d = 0; d < 32; ++d)
      score += static_cast<double>(q[d]) * k[static_cast<std::size_t>((j * 2 + kv_head) * 32 + d)];
    const double weight = std::exp(score * kShape.scale);
    sum += weight;
    for (int d = 0; d < 32; ++d)
      y[static_cast<std::size_t>(d)] +=
          weight * v[static_cast<std::size_t>((j * 2 + kv_head) * 32 + d)];
  }
  for (double& value : y) value = sum > 0.0 ? value / sum : 0.0;
  return y;
}

void append(std::vector<double>& all, const std::vector<double>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

void check_attention(const api::Device& device) {
  constexpr int kQueries = 3, kPositions = 7;
  const Floats q = random_floats(kQueries * 128, 1), k = random_floats(kPositions * 64, 2),
               v = random_floats(kPositions * 64, 3);
  auto visible = std::make_unique<bool[]>(kQueries * kPositions);
  std::vector<double> expected;
  for (int i = 0; i < kQueries; ++i) {
    std::vector<int> seen;
    for (int j = 0; j < kPositions; ++j)
      if ((visible[static_cast<std::size_t>(i * kPositions + j)] = i > 0 && (i + j) % 2 == 0))
        seen.push_back(j);
    for (int h = 0; h < 4; ++h)
      append(expected, attended(&q[static_cast<std::size_t>(i * 128 + h * 32)], k, v, h / 2, seen));
  }
  api::Attention attention(device, kShape, 16);
  Floats y(kQueries * 128);
  attention.run(y, q, k, v, {visible.get(), kQueries * kPositions});
  expect(worst(y, expected) < 1e-5, "attention is off by " + std::to_string(worst(y, expected)));
  expect_error(rocmforge::ErrorCode::kInvalidArgument, "a mask of another shape",
               [&] { attention.run(y, q, k, v, {visible.get(), 3}); });
}

// Two sequences in scattered blocks; the second one's first block is shared with the first.
void check_cache(const api::Device& device) {
  constexpr int kBlock = 4;
  const Floats k = random_floats(12 * 64, 4), v = random_floats(12 * 64, 5);
  api::KvCache cache(device, kShape, {rocmforge::KvType::kF32, 8, kBlock, 16, 4});
  const std::vector<std::int32_t> tables{6, 1, 6, 3};  // 7 positions; 6, four of them shared
  std::vector<std::int32_t> slots;
  for (int j = 0; j < 7; ++j) slots.push_back((j < 4 ? 6 : 1) * kBlock + j % 4);
  for (int j = 7; j < 9; ++j) slots.push_back(3 * kBlock + j - 7);
  cache.store({k.data(), 9 * 64}, {v.data(), 9 * 64}, slots);
  const std::vector<std::vector<int>> sequences{{0, 1, 2, 3, 4, 5, 6}, {0, 1, 2, 3, 7, 8}};
  const std::vector<std::int32_t> starts{0, 2, 3}, lengths{7, 6};
  const Floats q = random_floats(3 * 128, 6);
  std::vector<double> expected;
  for (int t = 0; t < 3; ++t) {
    std::vector<int> seen = sequences[t < 2 ? 0 : 1];
    if (t == 0) seen.pop_back();
    for (int h = 0; h < 4; ++h)
      append(expected, attended(&q[static_cast<std::size_t>(t * 128 + h * 32)], k, v, h / 2, seen));
  }
  Floats y(3 * 128);
  cache.attend(y, q, {starts, lengths, tables, 2});
  expect(worst(y, expected) < 1e-5, "the cache is off by " + std::to_string(worst(y, expected)));
  expect(cache.bytes() >= 8 * kBlock * 64 * 2 * 4, "a cache is smaller than what it holds");

  const auto invalid = rocmforge::ErrorCode::kInvalidArgument;
  expect_error(invalid, "a slot beyond the end", [&] {
    const std::vector<std::int32_t> beyond{8 * kBlock};
    cache.store({k.data(), 64}, {v.data(), 64}, beyond);
  });
  expect_error(invalid, "a block beyond the end", [&] {
    const std::vector<std::int32_t> wrong{6, 8, 6, 3};
    cache.attend(y, q, {starts, lengths, wrong, 2});
  });
  expect_error(invalid, "a sequence beyond its table", [&] {
    const std::vector<std::int32_t> longer{9, 6};
    cache.attend(y, q, {starts, longer, tables, 2});
  });
  expect_error(invalid, "tokens that decrease", [&] {
    const std::vector<std::int32_t> wrong{0, 4, 3};
    cache.attend(y, q, {wrong, lengths, tables, 2});
  });
}

void check_names() {
  const auto invalid = rocmforge::ErrorCode::kInvalidArgument;
  for (const char* name :
       {"", "gpu", "host", "host:", "host:-1", "host:1x", "cpu:0", "hip:99999999999"})
    expect_error(invalid, std::string("device '") + name + "'", [&] { api::Device device(name); });
  const std::vector<api::DeviceInfo> found = api::devices("host");
  expect(found.size() == 4 && found[0].name == "host:0" && found[1].wave_size == 64,
         "the emulated devices are not listed");
}

}  // namespace

int main(int, char** argv) {
  const api::Device device(argv[1]);
  check_names();
  check_buffers(device);
  check_products(device);
  check_attention(device);
  check_cache(device);
  return failures;
}
