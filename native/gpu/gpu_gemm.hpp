// Products of bf16 matrices for hundreds of columns: by the GPU vendor's library where that is
// there, trusted and not switched off, else by the gemm kernels.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "gpu/arena.hpp"
#include "gpu/device.hpp"
#include "gpu/matrix_library.hpp"
#include "include/args.hpp"

namespace rocmforge::gpu {

class GpuGemm {
 public:
  // The environment's ROCMFORGE_MATRIX_LIBRARY: "own" for the kernels, "vendor" for the library
  // also where it is not the default, or its file; both throw Error(kUnsupported) if it does not
  // open. Unset: the library on NVIDIA and on AMD's GPUs with waves of 64. Those with waves of 32
  // have kernels that do not need weights in memory again, and hipBLASLt's record on them is bad.
  explicit GpuGemm(Device& device);

  // Whether there is any way to multiply.
  bool exists() const { return gemm_[0] != nullptr; }
  // Tells of a shape before prepare().
  void announce(std::int64_t rows, std::int64_t k, std::int64_t y_stride);
  // Has the library choose for all shapes and up to so many columns, gives it its workspace and
  // checks a product of it; if that is wrong, the kernels multiply. Memory from the arena.
  void prepare(Arena& arena, std::int64_t max_columns);
  // Bytes of the arena that prepare() takes for good.
  std::int64_t workspace_bytes() const { return library_ ? MatrixLibrary::kWorkspaceBytes : 0; }

  // args.num_columns is `columns` on the device.
  void multiply(const GemmArgs& args, std::int64_t columns);

  // Which of both, and why not the other.
  const std::string& report() const { return report_; }

 private:
  struct Shape {
    std::int64_t rows, k, y_stride;
    auto operator<=>(const Shape&) const = default;
  };
  bool is_right(Arena& arena);
  void multiply_own(const GemmArgs& args, std::int64_t columns);

  Device& device_;
  std::array<Function, std::size(kGemmRows)> gemm_;  // null: not with this GPU
  std::unique_ptr<MatrixLibrary> library_;
  std::set<Shape> shapes_;
  std::string report_;
};

}  // namespace rocmforge::gpu
