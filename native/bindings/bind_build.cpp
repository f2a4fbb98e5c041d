// rocmforge._native.BUILD: what this build contains, whatever the machine can run.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/bindings.hpp"
#include "cpu/kernels.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {

void bind_build(py::module_& m) {
  std::vector<std::string> isas;
  for (cpu::Isa isa : cpu::built_isas()) isas.emplace_back(cpu::name(isa));
  py::module_ build = m.def_submodule("BUILD", "What this build contains.");
  build.attr("version") = ROCMFORGE_VERSION;
  build.attr("commit") = ROCMFORGE_COMMIT;
  build.attr("isas") = isas;
}

}  // namespace rocmforge::bindings
