// rocmforge._native.Quantizer: rows of one weight format into another.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bindings/bindings.hpp"
#include "bindings/names.hpp"
#include "core/error.hpp"
#include "cpu/kernels.hpp"
#include "model/quantizer.hpp"
#include "quant/stored.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

using Bytes = py::array_t<std::uint8_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;

constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;
constexpr int kMostThreads = 1024;

RowSource source_named(const std::string& name) {
  for (const quant::StoredFormat& f : quant::stored_formats())
    if (f.name == name) return {f.block_weights, f.block_bytes, f.decode};
  const quant::Format format = format_named(name);
  const quant::FormatInfo& info = quant::info(format);
  return {info.block_weights, info.block_bytes,
          cpu::kernels().dequantize[static_cast<int>(format)]};
}

Bytes convert(Quantizer& self, const std::string& source_format, const Bytes& rows,
              const std::string& target_format, const std::optional<Floats>& importance) {
  const RowSource from = source_named(source_format);
  const quant::Format to = format_named(target_format);
  check(rows.ndim() == 2, kCode, "rows must have two dimensions");
  const std::int64_t count = rows.shape(0), bytes = rows.shape(1);
  check(bytes % from.block_bytes == 0, kCode, "rows must be whole blocks");
  const std::int64_t k = bytes / from.block_bytes * from.block_weights;
  check(k > 0 && k % quant::info(to).block_weights == 0, kCode,
        "rows must have a whole number of blocks of the target format");
  check(!importance || (importance->ndim() == 1 && importance->size() == k), kCode,
        "importance must have one value a column");
  Bytes out({count, static_cast<py::ssize_t>(quant::row_bytes(to, k))});
  void* const result = out.mutable_data();
  const float* const known = importance ? importance->data() : nullptr;
  const std::uint8_t* const data = rows.data();
  {
    py::gil_scoped_release nogil;
    self.convert(result, to, data, from, count, k, known);
  }
  return out;
}

Quantizer* make(int num_threads) {
  check(num_threads >= 1 && num_threads <= kMostThreads, kCode,
        "num_threads must be from 1 to 1024");
  return new Quantizer(num_threads);
}

}  // namespace

void bind_quantizer(py::module_& m) {
  py::dict stored;
  for (const quant::StoredFormat& f : quant::stored_formats())
    stored[py::str(f.name.data(), f.name.size())] =
        py::make_tuple(f.gguf_id, f.block_weights, f.block_bytes);
  m.attr("STORED_FORMATS") = stored;

  py::class_<Quantizer>(m, "Quantizer")
      .def(py::init(&make), py::arg("num_threads"))
      .def("convert", &convert, py::arg("source_format"), py::arg("rows"), py::arg("target_format"),
           py::arg("importance") = py::none());
}

}  // namespace rocmforge::bindings
