// rocmforge._native.cpu: single kernels, for tests and benchmarks. The engine never calls these.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <string>

#include "bindings/bindings.hpp"
#include "cpu/kernels.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {

void bind_cpu(py::module_& m) {
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (cpu::Isa isa : cpu::available_isas()) names.emplace_back(cpu::name(isa));
    return names;
  });
  m.def("isa", [] { return std::string(cpu::name(cpu::kernels().isa)); });
}

}  // namespace rocmforge::bindings
