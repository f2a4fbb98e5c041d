// rocmforge._native.cpu: single kernels, for tests and benchmarks. The engine never calls these.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>

#include "bindings/bindings.hpp"
#include "bindings/names.hpp"
#include "bindings/panels.hpp"
#include "core/buffer.hpp"
#include "core/error.hpp"
#include "cpu/kernels.hpp"
#include "cpu/read_bandwidth.hpp"
#include "quant/activations.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;
using OptionalName = std::optional<std::string>;

void require(bool ok, const std::string& message) {
  if (!ok) throw Error(ErrorCode::kInvalidArgument, message);
}

// The last dimension counted in elements, given `bytes` per `values` elements.
std::int64_t elements(std::int64_t num_bytes, std::int64_t bytes, std::int64_t values,
                      const std::string& what) {
  require(num_bytes % bytes == 0, what + " has rows of " + std::to_string(num_bytes) +
                                      " bytes, not a whole number of blocks of " +
                                      std::to_string(bytes));
  return num_bytes / bytes * values;
}

template <class Array>
Array output(const std::optional<Array>& out, std::vector<py::ssize_t> shape) {
  if (!out) return Array(std::move(shape));
  const bool same = static_cast<std::size_t>(out->ndim()) == shape.size() &&
                    std::equal(shape.begin(), shape.end(), out->shape());
  require(same, "out does not have the shape of the result");
  return *out;
}

template <class Array>
std::vector<py::ssize_t> shape_of(const Array& a, py::ssize_t last) {
  require(a.ndim() >= 1, "the array has no dimensions; pass at least one row");
  std::vector<py::ssize_t> shape(a.shape(), a.shape() + a.ndim());
  shape.back() = last;
  return shape;
}

Bytes quantize(const Floats& x, const OptionalName& isa, const std::optional<Bytes>& out) {
  const auto quantize_row = kernels_named(isa).quantize;
  const std::int64_t k = x.ndim() ? x.shape(x.ndim() - 1) : 0;
  require(k % quant::kActivationBlock == 0, "x has rows of " + std::to_string(k) +
                                                " values, not a multiple of " +
                                                std::to_string(quant::kActivationBlock));
  const std::int64_t blocks = k / quant::kActivationBlock;
  const auto bytes = blocks * static_cast<std::int64_t>(sizeof(quant::BlockQ8x32));
  Bytes result = output(out, shape_of(x, bytes));
  const std::int64_t rows = k ? x.size() / k : 0;
  std::uint8_t* y_data = result.mutable_data();
  const float* x_data = x.data();
  {
    py::gil_scoped_release nogil;
    for (std::int64_t r = 0; r < rows; ++r)
      quantize_row(reinterpret_cast<quant::BlockQ8x32*>(y_data + r * bytes), 1, x_data + r * k, k);
  }
  return result;
}

Floats dequantize(const std::string& format_name, const Bytes& w, const OptionalName& isa,
                  const std::optional<Floats>& out) {
  const quant::Format format = format_named(format_name);
  const quant::FormatInfo& info = quant::info(format);
  const auto dequantize_row = kernels_named(isa).dequantize[static_cast<int>(format)];
  const std::int64_t bytes = w.ndim() ? w.shape(w.ndim() - 1) : 0;
  const std::int64_t k = elements(bytes, info.block_bytes, info.block_weights, "w");
  Floats result = output(out, shape_of(w, k));
  const std::int64_t rows = bytes ? w.size() / bytes : 0;
  float* y_data = result.mutable_data();
  const std::uint8_t* w_data = w.data();
  {
    py::gil_scoped_release nogil;
    for (std::int64_t r = 0; r < rows; ++r) dequantize_row(y_data + r * k, w_data + r * bytes, k);
  }
  return result;
}

Floats linear(const std::string& format_name, const Bytes& w, const Floats& x,
              const OptionalName& isa, const std::string& activations,
              const std::optional<std::pair<std::int64_t, std::int64_t>>& row_range,
              const std::optional<Floats>& out) {
  require(activations == "auto" || activations == "float",
          "activations is '" + activations + "'; it must be 'auto' or 'float'");
  require(w.ndim() == 2 && x.ndim() == 2, "w and x must have two dimensions each");
  const quant::Format format = format_named(format_name);
  const auto f = static_cast<int>(format);
  const quant::FormatInfo& info = quant::info(format);
  const cpu::Kernels k = kernels_named(isa);
  const bool floats = activations == "float" || info.activation == quant::ActivationType::kFloat;
  const bool panels = activations != "float" && k.panels.multiply[f];

  const std::int64_t rows = w.shape(0), cols = x.shape(0), row_bytes = w.shape(1);
  const std::int64_t n = elements(row_bytes, info.block_bytes, info.block_weights, "w");
  require(x.shape(1) == n, "w has rows of " + std::to_string(n) + " weights, x columns of " +
                               std::to_string(x.shape(1)) + " values");
  const auto [row_begin, row_end] = row_range.value_or(std::pair{std::int64_t{0}, rows});
  require(0 <= row_begin && row_begin <= row_end && row_end <= rows,
          "rows must be a range within [0, " + std::to_string(rows) + "]");
  require(!panels || (row_begin % cpu::kPanelRows == 0 &&
                      (row_end % cpu::kPanelRows == 0 || row_end == rows)),
          "rows must be whole panels of " + std::to_string(cpu::kPanelRows));
  Floats result = output(out, {cols, rows});
  float* y = result.mutable_data();
  const std::uint8_t* weights = w.data();
  const std::int64_t first = row_begin, last = row_end;
  py::gil_scoped_release nogil;
  if (panels) {
    const Buffer packed = pack_panels(k, format, weights, row_bytes, n, rows);
    const Buffer columns(
        static_cast<std::size_t>(cpu::panel_columns_bytes(info.activation, n, cols)));
    const std::int64_t group = k.panels.group(info.activation, cols);
    k.panels.pack_columns[static_cast<int>(info.activation)](
        {columns.data(), x.data(), n, nullptr, 0, n, cols, group, 0, (cols + group - 1) / group});
    const Buffer scratch(static_cast<std::size_t>(cpu::kPanelScratchBytes));
    k.panels.product(
        f, cols)({y, rows, packed.data(), columns.data(), n, rows, first / cpu::kPanelRows,
                  cpu::num_panels(last), cols, group, scratch.data()});
  } else if (floats) {
    const auto stride = n * static_cast<std::int64_t>(sizeof(float));
    k.linear_float[f](y, rows, weights, row_bytes, x.data(), stride, n, first, last, cols);
  } else {
    const std::int64_t blocks = n / quant::kActivationBlock;
    const auto stride = blocks * static_cast<std::int64_t>(sizeof(quant::BlockQ8x32));
    const Buffer columns(static_cast<std::size_t>(cols * stride));
    auto* to = static_cast<quant::BlockQ8x32*>(columns.data());
    for (std::int64_t c = 0; c < cols; ++c) k.quantize(to + c * blocks, 1, x.data() + c * n, n);
    k.linear_quantized[f](y, rows, weights, row_bytes, to, stride, n, first, last, cols);
  }
  return result;
}

// For every format's entry, the ISA whose unit provides it in the table of `isa`.
py::dict linear_providers(const std::string& isa_name) {
  const cpu::Isa isa = kernels_named(isa_name).isa;
  py::dict panels, floats, rows;
  cpu::Kernels previous{};
  for (cpu::Isa level : cpu::available_isas()) {
    const cpu::Kernels k = cpu::kernels_for(level);
    const py::str name{std::string(cpu::name(level))};
    for (int f = 0; f < quant::kNumFormats; ++f) {
      const py::str format{std::string(quant::kFormats[static_cast<std::size_t>(f)].name)};
      if (k.panels.multiply[f] != previous.panels.multiply[f]) panels[format] = name;
      if (k.linear_float[f] != previous.linear_float[f]) floats[format] = name;
      if (k.dequantize[f] != previous.dequantize[f]) rows[format] = name;
    }
    if (level == isa) break;
    previous = k;
  }
  py::dict providers;
  providers["panels"] = panels;
  providers["linear_float"] = floats;
  providers["dequantize"] = rows;
  return providers;
}

}  // namespace

void bind_cpu(py::module_& m) {
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (cpu::Isa isa : cpu::available_isas()) names.emplace_back(cpu::name(isa));
    return names;
  });
  m.def("isa", [] { return std::string(cpu::name(cpu::kernels().isa)); });
  m.def("read_bandwidth", &cpu::read_bandwidth, py::arg("threads"), py::arg("bytes"),
        py::call_guard<py::gil_scoped_release>(),
        "Bytes per second read from a huge-page buffer of `bytes` bytes by `threads` threads.");
  m.def("linear_providers", &linear_providers, py::arg("isa"),
        "{entry: {format: the ISA whose unit provides it when the table stops at `isa`}}.");
  m.def(
      "linear", &linear, py::arg("format"), py::arg("w"), py::arg("x"), py::arg("isa") = py::none(),
      py::arg("activations") = "auto", py::arg("rows") = py::none(), py::arg("out") = py::none(),
      "x @ W.T, float32 (cols, rows), of raw GGUF rows w (rows, row bytes) and x (cols, k)\n"
      "float32. activations='float' skips quantizing x. rows=(begin, end), whole panels of 16\n"
      "unless the level is scalar, computes these rows only and leaves the others of out as they\n"
      "are.");
  m.def(
      "quantize", &quantize, py::arg("x"), py::arg("isa") = py::none(), py::arg("out") = py::none(),
      "x (..., k) float32 as activation blocks of 32 values (quant/activations.hpp), uint8 bytes.");
  m.def("dequantize", &dequantize, py::arg("format"), py::arg("w"), py::arg("isa") = py::none(),
        py::arg("out") = py::none(), "Raw GGUF rows w (..., row bytes) as float32 (..., k).");
}

}  // namespace rocmforge::bindings
