#include "gpu/gpu_gemm.hpp"

#include <cmath>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/error.hpp"
#include "quant/small_floats.hpp"

namespace rocmforge::gpu {
namespace {

constexpr const char* kVariable = "ROCMFORGE_MATRIX_LIBRARY";

std::string setting() {
  const char* value = std::getenv(kVariable);
  return value ? value : "";
}

// Values from -1 to 1 in steps of 2^-7, as bf16: exact.
std::vector<std::uint16_t> some_values(std::size_t count, std::uint32_t seed) {
  std::vector<std::uint16_t> values(count);
  for (std::uint16_t& v : values) {
    seed = seed * 1664525u + 1013904223u;
    v = quant::float_to_bf16(static_cast<float>(static_cast<int>(seed >> 24) - 128) / 128);
  }
  return values;
}

}  // namespace

GpuGemm::GpuGemm(Device& device) : device_(device) {
  for (std::size_t i = 0; i < std::size(kGemmRows); ++i)
    gemm_[i] = device.find_kernel("gemm_r" + std::to_string(kGemmRows[i]));
  const std::string wanted = setting();
  const std::string driver(device.driver().name());
  const std::string own = "own kernels: ";
  if (!exists()) {
    report_ = own + "none of these for this GPU";
  } else if (wanted == "own") {
    report_ = own + kVariable + " is own";
  } else if (wanted.empty() && driver == "host") {
    report_ = own + "the emulation has no library";
  } else if (wanted.empty() && driver == "hip" && device.properties().wave_size == 32) {
    report_ = own + "hipBLASLt is used on GPUs with waves of 64; " + kVariable +
              "=vendor asks for it here";
  } else {
    try {
      library_ = std::make_unique<MatrixLibrary>(driver, wanted == "vendor" ? "" : wanted);
      report_ = library_->name();
    } catch (const Error& e) {
      if (!wanted.empty()) throw;
      report_ = own + e.what();
    }
  }
}

void GpuGemm::announce(std::int64_t rows, std::int64_t k, std::int64_t y_stride) {
  shapes_.insert({rows, k, y_stride});
}

void GpuGemm::prepare(Arena& arena, std::int64_t max_columns) {
  if (!library_) return;
  library_->use_workspace(arena.allocate(MatrixLibrary::kWorkspaceBytes));
  if (!is_right(arena)) {
    report_ = "own kernels: " + library_->name() + " gave a wrong product";
    library_.reset();
    return;
  }
  for (const Shape& s : shapes_)
    if (!library_->choose(s.rows, s.k, max_columns, s.y_stride))
      report_ += ", own kernels for " + std::to_string(s.rows) + " rows of " + std::to_string(s.k);
}

// The largest error of a product of numbers that float32 sums are exact of.
bool GpuGemm::is_right(Arena& arena) {
  constexpr std::size_t kRows = 64, kColumns = MatrixLibrary::kLeastColumns, kDepth = 128;
  const std::vector<std::uint16_t> w = some_values(kRows * kDepth, 1);
  const std::vector<std::uint16_t> x = some_values(kColumns * kDepth, 2);
  std::vector<float> y(kRows * kColumns, std::nanf(""));
  const auto bytes = [](const auto& v) {
    return static_cast<std::int64_t>(v.size() * sizeof(v[0]));
  };
  void* const device_w = arena.allocate(bytes(w));
  void* const device_x = arena.allocate(bytes(x));
  void* const device_y = arena.allocate(bytes(y));
  device_.to_device(device_w, w.data(), bytes(w));
  device_.to_device(device_x, x.data(), bytes(x));
  device_.to_device(device_y, y.data(), bytes(y));
  const bool found = library_->choose(kRows, kDepth, kColumns, kRows) &&
                     library_->multiply(static_cast<float*>(device_y), device_w, device_x, kRows,
                                        kColumns, kDepth, kRows, device_.stream());
  device_.to_host(y.data(), device_y, bytes(y));
  for (void* p : {device_w, device_x, device_y}) arena.free(p);
  if (!found) return false;
  for (std::size_t c = 0; c < kColumns; ++c)
    for (std::size_t r = 0; r < kRows; ++r) {
      float sum = 0;
      for (std::size_t i = 0; i < kDepth; ++i)
        sum += quant::bf16_to_float(w[r * kDepth + i]) * quant::bf16_to_float(x[c * kDepth + i]);
      if (y[c * kRows + r] != sum) return false;
    }
  return true;
}

void GpuGemm::multiply(const GemmArgs& args, std::int64_t columns) {
  if (!library_ || args.x_stride != args.k ||
      !library_->multiply(args.y, args.w, args.x, args.rows, columns, args.k, args.y_stride,
                          device_.stream()))
    return multiply_own(args, columns);
  device_.count_launch();
}

// Large blocks where there are enough of them: at least two rounds of one on every multiprocessor.
void GpuGemm::multiply_own(const GemmArgs& args, std::int64_t columns) {
  const Grid large = gemm_grid(args.rows, columns, kGemmRows[1]);
  const bool is_large =
      gemm_[1] && large.x * large.y >= 2 * device_.properties().num_multiprocessors;
  const std::size_t size = is_large ? 1 : 0;
  device_.launch(gemm_[size], gemm_grid(args.rows, columns, kGemmRows[size]), args);
}

}  // namespace rocmforge::gpu
