// rocmforge._native.cpu, continued: the elementwise kernels, for tests.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>

#include "bindings/bindings.hpp"
#include "bindings/names.hpp"
#include "core/error.hpp"
#include "cpu/kernels.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;
using IsaName = std::optional<std::string>;

constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;

Floats rms_norm(const Floats& x, const Floats& weight, float eps, const IsaName& isa) {
  check(x.ndim() == 1 && weight.ndim() == 1 && x.size() == weight.size(), kCode,
        "x and weight must be vectors of one length");
  Floats y(x.size());
  kernels_named(isa).rms_norm(y.mutable_data(), x.data(), weight.data(), x.size(), eps);
  return y;
}

Floats layer_norm(const Floats& x, const Floats& weight, const Floats& bias, float eps,
                  const IsaName& isa) {
  check(x.ndim() == 1 && x.size() == weight.size() && x.size() == bias.size(), kCode,
        "x, weight and bias must be vectors of one length");
  Floats y(x.size());
  kernels_named(isa).layer_norm(y.mutable_data(), x.data(), weight.data(), bias.data(), x.size(),
                                eps);
  return y;
}

Floats activate(Activation activation, const Floats& x, const IsaName& isa) {
  const py::ssize_t parts = is_gated(activation) ? 2 : 1;
  check(x.ndim() == 1 && x.size() % parts == 0, kCode, "x holds gate and up of one length");
  Floats y(x.size() / parts);
  kernels_named(isa).activate[static_cast<int>(activation)](y.mutable_data(), x.data(), y.size());
  return y;
}

Floats scale(const Floats& x, float factor, const IsaName& isa) {
  Floats y(x.size());
  std::copy(x.data(), x.data() + x.size(), y.mutable_data());
  kernels_named(isa).scale(y.mutable_data(), factor, y.size());
  return y;
}

Floats soft_cap(const Floats& x, float cap, const IsaName& isa) {
  Floats y(x.size());
  std::copy(x.data(), x.data() + x.size(), y.mutable_data());
  kernels_named(isa).soft_cap(y.mutable_data(), cap, y.size());
  return y;
}

Floats silu_mul(const Floats& gate, const Floats& up, const IsaName& isa) {
  check(gate.ndim() == 1 && gate.size() == up.size(), kCode, "gate and up must have one length");
  Floats y(gate.size());
  kernels_named(isa).silu_mul(y.mutable_data(), gate.data(), up.data(), gate.size());
  return y;
}

Floats add(const Floats& y, const Floats& x, const IsaName& isa) {
  check(y.ndim() == 1 && y.size() == x.size(), kCode, "x and y must have one length");
  Floats out(y.size());
  std::copy(y.data(), y.data() + y.size(), out.mutable_data());
  kernels_named(isa).add(out.mutable_data(), x.data(), x.size());
  return out;
}

Floats rope(const Floats& head, const Floats& cos, const Floats& sin, bool interleaved,
            const IsaName& isa) {
  check(cos.size() == sin.size() && 2 * cos.size() <= head.size(), kCode,
        "cos and sin hold one value a pair, at most half of the head");
  Floats out(head.size());
  std::copy(head.data(), head.data() + head.size(), out.mutable_data());
  kernels_named(isa).rope(out.mutable_data(), cos.data(), sin.data(), 2 * cos.size(), interleaved);
  return out;
}

Bytes store_kv(const Floats& x, const std::string& kv_dtype, const IsaName& isa) {
  const KvType type = kv_type_named(kv_dtype);
  check(x.size() % info(type).block_values == 0, kCode, "x is no whole number of blocks");
  Bytes y(kv_row_bytes(type, x.size()));
  kernels_named(isa).store_kv[static_cast<int>(type)](y.mutable_data(), x.data(), x.size());
  return y;
}

}  // namespace

void bind_ops(py::module_& m) {
  const auto isa = py::arg("isa") = py::none();
  m.def("rms_norm", &rms_norm, py::arg("x"), py::arg("weight"), py::arg("eps"), isa);
  m.def("layer_norm", &layer_norm, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("eps"),
        isa);
  m.def("activate", &activate, py::arg("activation"), py::arg("x"), isa);
  m.def("scale", &scale, py::arg("x"), py::arg("factor"), isa);
  m.def("soft_cap", &soft_cap, py::arg("x"), py::arg("cap"), isa);
  m.def("silu_mul", &silu_mul, py::arg("gate"), py::arg("up"), isa);
  m.def("add", &add, py::arg("y"), py::arg("x"), isa);
  m.def("rope", &rope, py::arg("head"), py::arg("cos"), py::arg("sin"), py::arg("interleaved"),
        isa);
  m.def("store_kv", &store_kv, py::arg("x"), py::arg("kv_dtype"), isa);
}

}  // namespace rocmforge::bindings
