// rocmforge._native.Attention: attention alone on any device, for rocmforge.Attention.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "bindings/bindings.hpp"
#include "bindings/names.hpp"
#include "core/error.hpp"
#include "cpu/cpu_backend.hpp"
#include "gpu/gpu_backend.hpp"
#include "model/standalone_attention.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Flags = py::array_t<bool, py::array::c_style | py::array::forcecast>;
// (driver, ordinal, code object, bytes of its memory)
using GpuChoice = std::tuple<std::string, int, std::string, std::int64_t>;

std::unique_ptr<Backend> backend_on(const std::optional<GpuChoice>& gpu, std::int64_t max_tokens) {
  if (!gpu)
    return std::make_unique<cpu::CpuBackend>(
        cpu::kernels(), cpu::CpuOptions{.num_threads = 1, .float_activations = true});
  gpu::GpuOptions options;
  std::tie(options.driver, options.ordinal, options.code_object, options.memory_limit) = *gpu;
  options.limits = {max_tokens, max_tokens, max_tokens};
  return std::make_unique<gpu::GpuBackend>(options);
}

void check_shape(const Floats& array, std::int64_t heads, std::int64_t dim, const char* what) {
  check(array.ndim() == 3 && array.shape(1) == heads && array.shape(2) == dim,
        ErrorCode::kInvalidArgument, what);
}

Floats run(StandaloneAttention& attention, const Floats& q, const Floats& k, const Floats& v,
           const Flags& visible) {
  const DecoderSpec& spec = attention.spec();
  check_shape(q, spec.num_heads, spec.head_dim, "q is [queries, num_heads, head_dim]");
  check_shape(k, spec.num_kv_heads, spec.head_dim, "k is [positions, num_kv_heads, head_dim]");
  check_shape(v, spec.num_kv_heads, spec.value_dim, "v is [positions, num_kv_heads, value_dim]");
  check(k.shape(0) == v.shape(0) && visible.ndim() == 2 && visible.shape(0) == q.shape(0) &&
            visible.shape(1) == k.shape(0),
        ErrorCode::kInvalidArgument,
        "k and v have a row a position, the mask is [queries, positions]");
  Floats y(std::vector<py::ssize_t>{q.shape(0), spec.num_heads, spec.value_dim});
  const auto queries = q.shape(0), positions = k.shape(0);
  float* out = y.mutable_data();
  {
    py::gil_scoped_release nogil;
    attention.run(out, q.data(), k.data(), v.data(), visible.data(), queries, positions);
  }
  return y;
}

}  // namespace

void bind_standalone(py::module_& m) {
  py::class_<StandaloneAttention>(m, "Attention")
      .def(py::init([](std::int32_t num_heads, std::int32_t num_kv_heads, std::int32_t head_dim,
                       std::int32_t value_dim, float scale, const std::string& kv_dtype,
                       std::int64_t max_tokens, const std::optional<GpuChoice>& gpu) {
             DecoderSpec spec;
             spec.num_layers = 1;
             spec.num_heads = num_heads;
             spec.num_kv_heads = num_kv_heads;
             spec.head_dim = head_dim;
             spec.value_dim = value_dim;
             spec.attention_scale = scale;
             return std::make_unique<StandaloneAttention>(backend_on(gpu, max_tokens), spec,
                                                          kv_type_named(kv_dtype), max_tokens);
           }),
           py::kw_only(), py::arg("num_heads"), py::arg("num_kv_heads"), py::arg("head_dim"),
           py::arg("value_dim"), py::arg("scale"), py::arg("kv_dtype"), py::arg("max_tokens"),
           py::arg("gpu") = py::none())
      .def("__call__", &run, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("visible"));
}

}  // namespace rocmforge::bindings
