#include "bindings/bindings.hpp"
#include "quant/formats.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {

void bind_quant(py::module_& m) {
  py::dict formats;
  for (const quant::FormatInfo& f : quant::kFormats)
    formats[py::str(f.name.data(), f.name.size())] =
        py::make_tuple(f.gguf_id, f.block_weights, f.block_bytes);
  m.attr("FORMATS") = formats;
}

}  // namespace rocmforge::bindings
