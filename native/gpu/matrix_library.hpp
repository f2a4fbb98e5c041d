// Products of bf16 matrices by the GPU vendor's library, opened at run time: cuBLASLt or hipBLASLt,
// whose interfaces are one but for the numbers of their enums. It allocates nothing of its own:
// the workspace is the caller's, and which of the library's kernels a product takes is chosen when
// the shape is announced.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "gpu/driver.hpp"

namespace rocmforge::gpu {

struct MatrixApi;

class MatrixLibrary {
 public:
  // For devices of a driver ("cuda", "hip"), the current one. `file`: its name, or empty to look
  // where the vendor installs it. Throws Error(kUnsupported) with what was tried.
  MatrixLibrary(const std::string& driver, const std::string& file);
  ~MatrixLibrary();
  MatrixLibrary(const MatrixLibrary&) = delete;
  MatrixLibrary& operator=(const MatrixLibrary&) = delete;

  // The name of the one that a driver's devices would use. Throws Error(kUnsupported).
  static std::string find(const std::string& driver);

  // How reports name it.
  const std::string& name() const { return name_; }

  // Enough for every kernel worth having (what cuBLAS takes by itself on large GPUs).
  static constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;
  void use_workspace(void* workspace) { workspace_ = workspace; }

  // Chooses kernels for y[c, r] = w[r] . x[c] of up to max_columns columns: one for up to
  // kLeastColumns and one for each double of it. Returns whether there is one for all of them.
  static constexpr std::int64_t kLeastColumns = 256;
  bool choose(std::int64_t rows, std::int64_t k, std::int64_t max_columns, std::int64_t y_stride);
  // Queues the product of an announced shape; false if no kernel was found for it. y float32, w and
  // x bf16, rows y_stride, k and k elements apart.
  bool multiply(float* y, const void* w, const void* x, std::int64_t rows, std::int64_t columns,
                std::int64_t k, std::int64_t y_stride, Stream stream);

 private:
  struct Algorithm {  // as large as either library's
    std::uint64_t words[8];
  };
  struct Layouts;

  const MatrixApi& api_;
  std::string name_;
  void* handle_ = nullptr;
  void* product_ = nullptr;  // its descriptor: w transposed, float32 sums
  void* workspace_ = nullptr;
  // By rows, k and the most columns.
  std::map<std::pair<std::pair<std::int64_t, std::int64_t>, std::int64_t>, Algorithm> algorithms_;
};

}  // namespace rocmforge::gpu
