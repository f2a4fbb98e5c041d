// rocmforge._native.cpu.gemm: products of many columns through matrix tiles, for tests and
// benchmarks. The engine reaches the same kernels through the backend.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bindings.hpp"
#include "bindings/names.hpp"
#include "bindings/panels.hpp"
#include "core/buffer.hpp"
#include "core/error.hpp"
#include "core/thread_pool.hpp"
#include "cpu/cpu_linear.hpp"
#include "cpu/kernels.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;
using Ints = py::array_t<std::int32_t, py::array::c_style>;

void require(bool ok, const std::string& message) {
  if (!ok) throw Error(ErrorCode::kInvalidArgument, message);
}

// Threads, packed columns and scratch of products at one level.
class Gemm {
 public:
  Gemm(const std::optional<std::string>& isa, int num_threads)
      : k_(kernels_named(isa)), pool_(num_threads) {
    if (!k_.gemm.pack)
      throw Error(ErrorCode::kUnsupported,
                  "isa " + std::string(cpu::name(k_.isa)) + " has no matrix tiles; amx has");
    for (int i = 0; i < num_threads; ++i)
      scratch_.emplace_back(static_cast<std::size_t>(k_.gemm.scratch_bytes));
  }

  // Operations per second of tile products alone, on all threads.
  double peak() {
    constexpr std::int64_t kProducts = 400000;  // about 2 ms
    const auto start = std::chrono::steady_clock::now();
    pool_.parallel_for(pool_.num_threads(), 1,
                       [&](std::int64_t, std::int64_t, int) { k_.gemm.spin(kProducts); });
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    return 2.0 * 16 * 16 * 32 * kProducts * pool_.num_threads() / taken.count();
  }

  Floats product(const std::string& format_name, const Bytes& w, const Floats& x,
                 const std::optional<Ints>& source,
                 const std::optional<std::pair<std::int64_t, std::int64_t>>& row_range,
                 const std::optional<Floats>& out, std::int64_t grain) {
    require(w.ndim() == 2 && x.ndim() == 2, "w and x must have two dimensions each");
    const quant::Format format = format_named(format_name);
    const quant::FormatInfo& info = quant::info(format);
    const std::int64_t rows = w.shape(0), row_bytes = w.shape(1), n = x.shape(1);
    const std::int64_t cols = source ? source->size() : x.shape(0);
    require(n % info.block_weights == 0 && quant::row_bytes(format, n) == row_bytes,
            "w has rows of " + std::to_string(row_bytes) + " bytes; columns of " +
                std::to_string(n) + " values need another number");
    if (source)
      for (std::int64_t c = 0; c < cols; ++c)
        require(source->at(c) >= 0 && source->at(c) < x.shape(0),
                "source names a row that x does not have");
    const auto [row_begin, row_end] = row_range.value_or(std::pair{std::int64_t{0}, rows});
    require(0 <= row_begin && row_begin <= row_end && row_end <= rows,
            "rows must be a range within [0, " + std::to_string(rows) + "]");
    require(row_begin % cpu::kPanelRows == 0 && (row_end % cpu::kPanelRows == 0 || row_end == rows),
            "rows must be whole panels of " + std::to_string(cpu::kPanelRows));
    require(grain > 0 && grain % cpu::kPanelRows == 0,
            "grain must be a positive multiple of " + std::to_string(cpu::kPanelRows));
    Floats result = out ? *out : Floats({cols, rows});
    require(result.ndim() == 2 && result.shape(0) == cols && result.shape(1) == rows,
            "out does not have the shape of the result");

    reserve(columns_, k_.gemm.packed_bytes(n, cols));
    const cpu::PackArgs pack{
        columns_.data(), x.data(), n, source ? source->data() : nullptr, 0, n, cols, 0, 0};
    cpu::GemmArgs args{
        result.mutable_data(), rows, nullptr, columns_.data(), n, rows, 0, 0, cols, nullptr};
    const auto gemm = k_.gemm.gemm[static_cast<int>(format)];
    const std::uint8_t* data = w.data();
    const std::int64_t first = row_begin / cpu::kPanelRows;
    const std::int64_t last = row_end > row_begin ? cpu::num_panels(row_end) : first;
    py::gil_scoped_release nogil;
    const Buffer panels = pack_panels(k_, format, data, row_bytes, n, rows);
    args.w = panels.data();
    multiply(pack, args, gemm, first, last, grain / cpu::kPanelRows);
    return result;
  }

 private:
  void multiply(const cpu::PackArgs& pack, const cpu::GemmArgs& args,
                void (*gemm)(const cpu::GemmArgs&), std::int64_t first, std::int64_t last,
                std::int64_t grain) {
    const std::int64_t tiles = (pack.num_cols + cpu::kGemmTileColumns - 1) / cpu::kGemmTileColumns;
    pool_.parallel_for(tiles, 1, [&](std::int64_t begin, std::int64_t end, int) {
      cpu::PackArgs part = pack;
      part.tile_begin = begin;
      part.tile_end = end;
      k_.gemm.pack(part);
    });
    pool_.parallel_for(last - first, grain, [&](std::int64_t begin, std::int64_t end, int thread) {
      cpu::GemmArgs part = args;
      part.panel_begin = first + begin;
      part.panel_end = first + end;
      part.scratch = scratch_[static_cast<std::size_t>(thread)].data();
      gemm(part);
    });
  }
  static void reserve(Buffer& buffer, std::int64_t bytes) {
    if (buffer.bytes() < static_cast<std::size_t>(bytes))
      buffer = Buffer(static_cast<std::size_t>(bytes));
  }

  cpu::Kernels k_;
  ThreadPool pool_;
  Buffer columns_;
  std::vector<Buffer> scratch_;
};

// A matrix as the engine keeps and multiplies it, for benchmarks: packed once.
class Matrix {
 public:
  Matrix(const std::string& format, const Bytes& w, const std::optional<std::string>& isa,
         int num_threads, bool deterministic)
      : k_(kernels_named(isa)), pool_(num_threads), linear_(k_, pool_, false, deterministic) {
    Tensor t;
    t.data = w.data();
    t.format = format_named(format);
    const quant::FormatInfo& info = quant::info(t.format);
    require(w.ndim() == 2 && w.shape(1) % info.block_bytes == 0, "w must be rows of whole blocks");
    t.rows = w.shape(0);
    t.cols = w.shape(1) / info.block_bytes * info.block_weights;
    const Tensor parts[] = {t};
    weights_ = linear_.prepare(parts, WeightUse::kProducts);
  }

  // Packing of columns included.
  Floats multiply(const Floats& x, const std::optional<Floats>& out) {
    require(x.ndim() == 2 && x.shape(1) == weights_->cols(),
            "x must be rows of the matrix's length");
    const auto rows = static_cast<py::ssize_t>(weights_->rows());
    Floats y = out ? *out : Floats({x.shape(0), rows});
    require(y.ndim() == 2 && y.shape(0) == x.shape(0) && y.shape(1) == rows,
            "out does not have the shape of the result");
    float* to = y.mutable_data();
    const PreparedActivation prepared{x.data(), x.shape(0), x.shape(1)};
    const auto& w = static_cast<const cpu::CpuWeights&>(*weights_);
    py::gil_scoped_release nogil;
    linear_.prepare_activation(prepared.x, prepared.rows, prepared.cols, w);
    linear_.multiply(to, prepared, w);
    return y;
  }

 private:
  cpu::Kernels k_;
  ThreadPool pool_;
  cpu::CpuLinear linear_;
  LinearPtr weights_;
};

}  // namespace

void bind_gemm(py::module_& m) {
  py::class_<Gemm>(m, "Gemm", "Products of many columns at one ISA level, in bfloat16 tiles.")
      .def(py::init<const std::optional<std::string>&, int>(), py::arg("isa") = py::none(),
           py::arg("num_threads") = 1)
      .def("peak", &Gemm::peak, py::call_guard<py::gil_scoped_release>(),
           "Operations per second of tile products alone, on all threads.")
      .def("__call__", &Gemm::product, py::arg("format"), py::arg("w"), py::arg("x"),
           py::arg("source") = py::none(), py::arg("rows") = py::none(),
           py::arg("out") = py::none(), py::arg("grain") = 256,
           "x @ W.T, float32 (cols, rows), of raw GGUF rows w (rows, row bytes) and x (cols, k).\n"
           "source: int32 rows of x to take as columns. rows=(begin, end)\n"
           "computes these rows only; grain: rows that a thread takes at once. Both are whole "
           "panels\n"
           "of 16.");
  py::class_<Matrix>(m, "Matrix", "A matrix as the engine keeps and multiplies it.")
      .def(py::init<const std::string&, const Bytes&, const std::optional<std::string>&, int,
                    bool>(),
           py::arg("format"), py::arg("w"), py::arg("isa") = py::none(), py::arg("num_threads") = 1,
           py::arg("deterministic") = false)
      .def("__call__", &Matrix::multiply, py::arg("x"), py::arg("out") = py::none(),
           "x @ W.T, float32 (cols, rows), of x (cols, k); packing of x included.");
}

}  // namespace rocmforge::bindings
