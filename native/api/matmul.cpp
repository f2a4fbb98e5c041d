#include "api/matmul.hpp"

#include "api/backends.hpp"
#include "gpu/limits.hpp"
#include "model/standalone_matmul.hpp"

namespace rocmforge::api {
namespace {

constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));

std::unique_ptr<Backend> backend_for(const Device& device, std::span<const Tensor> parts,
                                     std::int64_t max_rows) {
  std::int64_t bytes = 0;
  for (const Tensor& t : parts) {
    bytes += gpu::Arena::room_for(t.bytes());
    const std::string problem = device.is_gpu() ? gpu::columns_problem(t.cols) : "";
    if (!problem.empty()) throw Error(ErrorCode::kUnsupported, problem);
  }
  return open_backend(device, {max_rows, 1, 1}, bytes);
}

}  // namespace

struct Matrix::Parts {
  Parts(const Device& where, std::span<const Tensor> tensors, std::int64_t max_rows)
      : device(where), backend(backend_for(device, tensors, max_rows)) {
    gpu = device.is_gpu() ? static_cast<gpu::GpuBackend*>(backend.get()) : nullptr;
    matmul = std::make_unique<StandaloneMatmul>(std::move(backend), tensors, max_rows);
  }

  Device device;
  std::unique_ptr<Backend> backend;  // until it is the product's
  gpu::GpuBackend* gpu = nullptr;    // null on the CPU
  std::unique_ptr<StandaloneMatmul> matmul;
};

Matrix::Matrix(const Device& device, std::span<const Tensor> parts, std::int64_t max_rows)
    : parts_(std::make_unique<Parts>(device, parts, max_rows)) {}
Matrix::~Matrix() = default;
Matrix::Matrix(Matrix&&) noexcept = default;
Matrix& Matrix::operator=(Matrix&&) noexcept = default;

std::int64_t Matrix::rows() const { return parts_->matmul->rows(); }
std::int64_t Matrix::cols() const { return parts_->matmul->cols(); }

void Matrix::multiply(std::span<float> y, std::span<const float> x) {
  const auto count = static_cast<std::int64_t>(x.size()) / cols();
  check(static_cast<std::int64_t>(x.size()) == count * cols() &&
            static_cast<std::int64_t>(y.size()) == count * rows(),
        ErrorCode::kInvalidArgument, "x is [n, cols] and y [n, rows]");
  parts_->matmul->run(y.data(), x.data(), count);
}

void Matrix::multiply(Buffer& y, const Buffer& x, std::int64_t count) {
  check(x.device().name() == parts_->device.name() && y.device().name() == parts_->device.name(),
        ErrorCode::kInvalidArgument, "a buffer is on another device than the matrix");
  check(count >= 0 && x.bytes() / kFloat / cols() >= count && y.bytes() / kFloat / rows() >= count,
        ErrorCode::kInvalidArgument, "a buffer holds fewer rows than the product has");
  parts_->matmul->run_on_device(static_cast<float*>(y.data()), static_cast<const float*>(x.data()),
                                count);
  if (parts_->gpu) parts_->gpu->device().wait();
}

}  // namespace rocmforge::api
