// Products and decoded rows of every format at every level: against float64, of random shapes and
// random bytes, between guard pages. ROCMFORGE_TEST_CASES sets how many of a format (200).
#include <doctest/doctest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "cpu/kernels.hpp"
#include "guarded.hpp"
#include "reference_blocks.hpp"

using namespace rocmforge;
using rocmforge::test::Guarded;
using rocmforge::test::Weight;

namespace {

int num_cases() {
  const char* wanted = std::getenv("ROCMFORGE_TEST_CASES");
  return wanted ? std::stoi(wanted) : 200;
}

struct Case {
  int format;
  const quant::FormatInfo& info;
  std::int64_t rows, cols, k, row_bytes;
  bool at_end;
  std::string name;
  Guarded<std::uint8_t> w;
  Guarded<float> x;
  std::vector<Weight> weights;  // [rows, k]

  Case(int f, int index, std::int64_t num_rows, std::int64_t num_cols, std::int64_t num_k)
      : format(f),
        info(quant::kFormats[static_cast<std::size_t>(f)]),
        rows(num_rows),
        cols(num_cols),
        k(num_k),
        row_bytes(k / info.block_weights * info.block_bytes),
        at_end(index % 2 == 0),
        name(std::string(info.name) + " rows " + std::to_string(rows) + " cols " +
             std::to_string(cols) + " k " + std::to_string(k) + " case " + std::to_string(index)),
        w(rows * row_bytes, at_end),
        x(cols * k, at_end) {
    std::mt19937_64 random(static_cast<std::uint64_t>(index));
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < rows * row_bytes; ++i) w[i] = static_cast<std::uint8_t>(random());
    if (index % 4 != 3)
      for (std::int64_t i = 0; i < rows * row_bytes; i += info.block_bytes)
        set_scales(&w[i], static_cast<std::uint32_t>(random()), index % 4 == 1);
    for (std::int64_t i = 0; i < cols * k; ++i) x[i] = normal(random);
    weights.reserve(static_cast<std::size_t>(rows * k));
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t i = 0; i < k; ++i)
        weights.push_back(test::reference_weight(
            info.name, &w[r * row_bytes + i / info.block_weights * info.block_bytes],
            static_cast<int>(i % info.block_weights)));
  }

  // Gives a block of random bytes scales around 2^-9, or such that are subnormal (F32, BF16:
  // alike).
  void set_scales(std::uint8_t* block, std::uint32_t bits, bool subnormal) const {
    const test::ScaleFields fields = test::scale_fields(info.name);
    for (const int at : {fields.first, fields.second}) {
      if (at < 0) continue;
      const unsigned high = info.name == "BF16" ? 0x3a + bits % 8
                            : subnormal         ? bits % 4
                                                : 0x14 + bits % 8;
      block[at + 1] = static_cast<std::uint8_t>(high + (bits >> 8) % 2 * 128);
      bits >>= 9;
    }
    if (info.name == "MXFP4")
      block[0] = static_cast<std::uint8_t>(subnormal ? bits % 4 : 117 + bits % 8);
    if (info.name == "F32")
      block[3] = static_cast<std::uint8_t>(0x3a + bits % 4 + bits / 4 % 2 * 128);
  }

  const Weight& weight(std::int64_t row, std::int64_t i) const {
    return weights[static_cast<std::size_t>(row * k + i)];
  }
};

// The rounding that `n` operations in float32 may add to sum |w x|, each operation with a subnormal
// result half of the smallest one besides. Where partial sums may overflow there is no bound.
class Expected {
 public:
  Expected(const Case& c, const std::vector<double>& x, double roundings) : c_(c) {
    for (std::int64_t col = 0; col < c.cols; ++col)
      for (std::int64_t row = 0; row < c.rows; ++row) {
        double sum = 0, size = 0, weights = 0;
        for (std::int64_t i = 0; i < c.k; ++i) {
          const Weight& w = c.weight(row, i);
          const double v = x[static_cast<std::size_t>(col * c.k + i)];
          sum += w.value * v;
          size += w.magnitude * std::abs(v);
          weights += w.magnitude;
        }
        const bool fits = std::max(size, 127 * weights) < FLT_MAX / 2;  // false for a NaN
        sums_.push_back(sum);
        bounds_.push_back(fits ? roundings * 0x1p-24 * size + double(4 * c.k) * 0x1p-149
                               : INFINITY);
      }
  }

  // Of y[col, row], which is filled with NaN again.
  void check(const Guarded<float>& y, const char* what, cpu::Isa isa) const {
    double worst = 0;
    bool finite = false;
    for (std::int64_t i = 0; i < c_.rows * c_.cols; ++i) {
      const double sum = sums_[static_cast<std::size_t>(i)];
      const double bound = bounds_[static_cast<std::size_t>(i)];
      if (!std::isfinite(sum))
        finite |= std::isfinite(y[i]);
      else if (!std::isinf(bound))
        worst = std::isnan(y[i]) ? INFINITY : std::max(worst, std::abs(y[i] - sum) / bound);
      if (std::isinf(worst)) break;
    }
    std::fill(&y[0], &y[c_.rows * c_.cols], NAN);
    INFO(std::string(what), " at ", std::string(cpu::name(isa)), ", ", c_.name);
    CHECK(worst <= 1.0);
    CHECK_FALSE(finite);
  }

 private:
  const Case& c_;
  std::vector<double> sums_, bounds_;
};

// The largest of the bounds stated in linear_float.cpp, panel/float_body.hpp and scalar/linear.cpp.
double float_roundings(double k) { return std::max(k / 8 + 24, std::min(k, 256.0) + k / 256 + 2); }
// The larger of those in panel/multiply_body.hpp and scalar/linear.cpp.
double quantized_roundings(double k) { return k / 32 + 8; }

void multiply_panels(const cpu::Kernels& k, const Case& c, const Guarded<float>& y) {
  const auto type = c.info.activation;
  const std::int64_t panels = cpu::num_panels(c.rows), bytes = k.panels.bytes[c.format](c.k);
  const Guarded<std::uint8_t> packed(panels * bytes, c.at_end);
  for (std::int64_t p = 0; p < panels; ++p)
    k.panels.pack[c.format](&packed[p * bytes], &c.w[p * cpu::kPanelRows * c.row_bytes],
                            c.row_bytes, c.k,
                            std::min(cpu::kPanelRows, c.rows - p * cpu::kPanelRows));
  const Guarded<std::uint8_t> columns(cpu::panel_columns_bytes(type, c.k, c.cols), c.at_end);
  const Guarded<std::uint8_t> scratch(cpu::kPanelScratchBytes, c.at_end);
  const std::int64_t group = k.panels.group(type, c.cols);
  k.panels.pack_columns[static_cast<int>(type)]({columns.get(), c.x.get(), c.k, nullptr, 0, c.k,
                                                 c.cols, group, 0, (c.cols + group - 1) / group});
  k.panels.product(c.format, c.cols)({y.get(), c.rows, packed.get(), columns.get(), c.k, c.rows, 0,
                                      panels, c.cols, group, scratch.get()});
}

// The levels of this machine, each with what the one below it does otherwise.
struct Levels {
  std::vector<cpu::Kernels> tables;
  Levels() {
    for (const cpu::Isa isa : cpu::available_isas()) tables.push_back(cpu::kernels_for(isa));
  }
  template <class Member>
  bool is_new(std::size_t level, Member member) const {
    return member(tables[level]) &&
           (level == 0 || member(tables[level]) != member(tables[level - 1]));
  }
};

std::vector<double> floats(const Case& c) { return {c.x.get(), c.x.get() + c.cols * c.k}; }

void check_decoded(const Case& c, const cpu::Kernels& k) {
  const Guarded<float> y(c.k, c.at_end);
  double worst = 0;
  bool finite = false;
  for (std::int64_t row = 0; row < c.rows; ++row) {
    k.dequantize[c.format](y.get(), &c.w[row * c.row_bytes], c.k);
    for (std::int64_t i = 0; i < c.k; ++i) {
      const Weight& w = c.weight(row, i);
      // A scale, a product, a min and a sum are rounded.
      const double bound = 4 * 0x1p-24 * w.magnitude + 4 * 0x1p-149;
      if (!std::isfinite(w.value))
        finite |= std::isfinite(y[i]);
      else if (w.magnitude < FLT_MAX / 2)
        worst = std::isnan(y[i]) ? INFINITY : std::max(worst, std::abs(y[i] - w.value) / bound);
    }
  }
  INFO("decoded at ", std::string(cpu::name(k.isa)), ", ", c.name);
  CHECK(worst <= 1.0);
  CHECK_FALSE(finite);
}

void check_products(const Case& c, const Levels& levels) {
  const Guarded<float> y(c.rows * c.cols, c.at_end);
  std::fill(&y[0], &y[c.rows * c.cols], NAN);
  const Expected exact(c, floats(c), float_roundings(double(c.k)));
  const std::int64_t blocks = c.k / quant::kActivationBlock;
  const bool quantized = c.info.activation == quant::ActivationType::kQ8x32;
  const Guarded<quant::BlockQ8x32> x(quantized ? c.cols * blocks : 0, c.at_end);
  std::vector<double> values;
  if (quantized) {
    for (std::int64_t col = 0; col < c.cols; ++col)
      levels.tables[0].quantize(&x[col * blocks], 1, &c.x[col * c.k], c.k);
    for (std::int64_t i = 0; i < c.cols * blocks; ++i)
      for (const std::int8_t q : x[i].qs) values.push_back(double(x[i].d) * q);
  }
  const Expected rounded(c, quantized ? values : floats(c), quantized_roundings(double(c.k)));

  for (std::size_t i = 0; i < levels.tables.size(); ++i) {
    const cpu::Kernels& k = levels.tables[i];
    const int f = c.format;
    if (levels.is_new(i, [f](const cpu::Kernels& t) { return t.dequantize[f]; }))
      check_decoded(c, k);
    if (levels.is_new(i, [f](const cpu::Kernels& t) { return t.linear_float[f]; })) {
      k.linear_float[f](y.get(), c.rows, c.w.get(), c.row_bytes, c.x.get(), c.k * 4, c.k, 0, c.rows,
                        c.cols);
      exact.check(y, "float activations", k.isa);
    }
    if (levels.is_new(i, [f](const cpu::Kernels& t) { return t.linear_quantized[f]; })) {
      k.linear_quantized[f](y.get(), c.rows, c.w.get(), c.row_bytes, x.get(),
                            blocks * std::int64_t(sizeof(quant::BlockQ8x32)), c.k, 0, c.rows,
                            c.cols);
      rounded.check(y, "rows", k.isa);
    }
    const auto panels = [&](const cpu::Kernels& t) {
      return t.panels.multiply[f] ? t.panels.product(f, c.cols) : nullptr;
    };
    if (levels.is_new(i, panels)) {
      multiply_panels(k, c, y);
      (quantized ? rounded : exact).check(y, "panels", k.isa);
    }
  }
}

}  // namespace

TEST_CASE("products of every format match float64 at every level, between guard pages") {
  const Levels levels;
  const int cases = num_cases();
  constexpr std::int64_t kCols[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 31};
  for (int f = 0; f < quant::kNumFormats; ++f) {
    const std::int64_t unit = quant::kFormats[static_cast<std::size_t>(f)].block_weights;
    for (int i = 0; i < cases; ++i) {
      std::mt19937 random(static_cast<std::uint32_t>(1000 * f + i));
      const std::int64_t k = unit == 1    ? 1 + random() % 600
                             : unit == 32 ? 32 * (1 + random() % 18)
                                          : 256 * (1 + random() % 3);
      check_products(Case(f, i, 1 + random() % 40, kCols[i % 12], k), levels);
    }
  }
}

TEST_CASE("more columns than are summed at a time do not mix") {
  const Levels levels;
  for (int f = 0; f < quant::kNumFormats; ++f) {
    const std::int64_t unit = quant::kFormats[static_cast<std::size_t>(f)].block_weights;
    check_products(Case(f, 0, 3, 513, std::max<std::int64_t>(unit, 32)), levels);
  }
}
