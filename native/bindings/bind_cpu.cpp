// rocmforge._native.cpu: single kernels, for tests and benchmarks. The engine never calls these.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>

#include "bindings/bindings.hpp"
#include "bindings/names.hpp"
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

quant::ActivationType activation_of(const std::string& name) {
  std::string known;
  for (int i = 0; i < quant::kNumActivationTypes; ++i) {
    const auto type = static_cast<quant::ActivationType>(i);
    if (quant::info(type).name == name) return type;
    known += " " + std::string(quant::info(type).name);
  }
  throw Error(ErrorCode::kInvalidArgument, "activation type '" + name + "' is not one of" + known);
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

Bytes quantize(const std::string& type_name, const Floats& x, const OptionalName& isa,
               const std::optional<Bytes>& out) {
  const quant::ActivationType type = activation_of(type_name);
  const quant::ActivationInfo& info = quant::info(type);
  const auto quantize_row = kernels_named(isa).quantize[static_cast<int>(type)];
  const std::int64_t k = x.ndim() ? x.shape(x.ndim() - 1) : 0;
  require(k % info.block_values == 0, "x has rows of " + std::to_string(k) +
                                          " values, not a multiple of " +
                                          std::to_string(info.block_values));
  const std::int64_t bytes = quant::activation_row_bytes(type, k);
  Bytes result = output(out, shape_of(x, bytes));
  const std::int64_t rows = k ? x.size() / k : 0;
  std::uint8_t* y_data = result.mutable_data();
  const float* x_data = x.data();
  {
    py::gil_scoped_release nogil;
    for (std::int64_t r = 0; r < rows; ++r) quantize_row(y_data + r * bytes, x_data + r * k, k);
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

Floats linear(const std::string& format_name, const Bytes& w, const py::array& x,
              const OptionalName& isa, const std::string& activations,
              const std::optional<std::pair<std::int64_t, std::int64_t>>& row_range,
              const std::optional<Floats>& out) {
  require(activations == "auto" || activations == "float",
          "activations is '" + activations + "'; it must be 'auto' or 'float'");
  require(w.ndim() == 2 && x.ndim() == 2, "w and x must have two dimensions each");
  const quant::Format format = format_named(format_name);
  const quant::FormatInfo& info = quant::info(format);
  const cpu::Kernels k = kernels_named(isa);
  const auto type = activations == "float" ? quant::ActivationType::kFloat : info.activation;
  const auto kernel =
      (activations == "float" ? k.linear_float : k.linear_quantized)[static_cast<int>(format)];

  const std::int64_t rows = w.shape(0), cols = x.shape(0);
  const std::int64_t row_bytes = w.shape(1);
  const std::int64_t n = elements(row_bytes, info.block_bytes, info.block_weights, "w");
  const bool is_float = py::isinstance<py::array_t<float>>(x);
  require(is_float || py::isinstance<py::array_t<std::uint8_t>>(x),
          "x must hold float32 values or the uint8 blocks that quantize() returns");
  require(x.flags() & py::array::c_style, "x must be C-contiguous");
  const std::int64_t x_bytes = is_float ? n * static_cast<std::int64_t>(sizeof(float))
                                        : quant::activation_row_bytes(type, n);
  const std::int64_t x_have = x.shape(1) * x.itemsize();
  require(x_have == x_bytes, "w has rows of " + std::to_string(n) + " weights, which need " +
                                 std::to_string(x_bytes) + " bytes a column; x has " +
                                 std::to_string(x_have));
  const auto [row_begin, row_end] = row_range.value_or(std::pair{std::int64_t{0}, rows});
  require(0 <= row_begin && row_begin <= row_end && row_end <= rows,
          "rows must be a range within [0, " + std::to_string(rows) + "]");

  const void* x_data = x.data();
  std::int64_t x_stride = x_bytes;
  Bytes quantized;
  if (is_float && type != quant::ActivationType::kFloat) {
    quantized = quantize(std::string(quant::info(type).name), Floats(x), isa, std::nullopt);
    x_data = quantized.data();
    x_stride = quant::activation_row_bytes(type, n);
  }
  Floats result = output(out, {cols, rows});
  float* y_data = result.mutable_data();
  const std::uint8_t* w_data = w.data();
  {
    py::gil_scoped_release nogil;
    kernel(y_data, rows, w_data, row_bytes, x_data, x_stride, n, row_begin, row_end, cols);
  }
  return result;
}

// For every format's entry, the ISA whose unit provides it in the table of `isa`.
py::dict linear_providers(const std::string& isa_name) {
  const cpu::Isa isa = kernels_named(isa_name).isa;
  py::dict providers;
  for (const char* entry : {"linear_quantized", "linear_float", "dequantize"})
    providers[entry] = py::dict();
  cpu::Kernels previous{};
  for (cpu::Isa level : cpu::available_isas()) {
    const cpu::Kernels k = cpu::kernels_for(level);
    const py::str name{std::string(cpu::name(level))};
    for (int f = 0; f < quant::kNumFormats; ++f) {
      const py::str format{std::string(quant::kFormats[static_cast<std::size_t>(f)].name)};
      if (k.linear_quantized[f] != previous.linear_quantized[f])
        providers["linear_quantized"][format] = name;
      if (k.linear_float[f] != previous.linear_float[f]) providers["linear_float"][format] = name;
      if (k.dequantize[f] != previous.dequantize[f]) providers["dequantize"][format] = name;
    }
    if (level == isa) break;
    previous = k;
  }
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
  m.def("linear", &linear, py::arg("format"), py::arg("w"), py::arg("x"),
        py::arg("isa") = py::none(), py::arg("activations") = "auto", py::arg("rows") = py::none(),
        py::arg("out") = py::none(),
        "x @ W.T, float32 (cols, rows), of raw GGUF rows w (rows, row bytes) and x (cols, k)\n"
        "float32, or uint8 blocks from quantize(). activations='float' skips quantizing x.\n"
        "rows=(begin, end) computes these rows only and leaves the others of out as they are.");
  m.def("quantize", &quantize, py::arg("type"), py::arg("x"), py::arg("isa") = py::none(),
        py::arg("out") = py::none(),
        "x (..., k) float32 as 'q8x32', 'q8x256' or 'float' activation blocks, uint8 bytes.");
  m.def("dequantize", &dequantize, py::arg("format"), py::arg("w"), py::arg("isa") = py::none(),
        py::arg("out") = py::none(), "Raw GGUF rows w (..., row bytes) as float32 (..., k).");
}

}  // namespace rocmforge::bindings
