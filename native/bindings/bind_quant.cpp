#include "bindings/bindings.hpp"
#include "model/kv_type.hpp"
#include "quant/formats.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {

void bind_quant(py::module_& m) {
  py::dict formats;
  for (const quant::FormatInfo& f : quant::kFormats)
    formats[py::str(f.name.data(), f.name.size())] =
        py::make_tuple(f.gguf_id, f.block_weights, f.block_bytes);
  m.attr("FORMATS") = formats;

  py::dict kv_dtypes;
  for (const KvTypeInfo& t : kKvTypes)
    kv_dtypes[py::str(t.name.data(), t.name.size())] =
        py::make_tuple(t.block_values, t.block_bytes);
  m.attr("KV_DTYPES") = kv_dtypes;
}

}  // namespace rocmforge::bindings
