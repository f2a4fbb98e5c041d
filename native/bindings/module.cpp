#include "bindings/bindings.hpp"

namespace py = pybind11;

PYBIND11_MODULE(_native, m) {
  using namespace rocmforge::bindings;
  bind_build(m);
  bind_errors();
  bind_quant(m);
  bind_quantizer(m);
  py::module_ cpu = m.def_submodule("cpu", "Single kernels, for tests and benchmarks.");
  bind_cpu(cpu);
  bind_gemm(cpu);
  bind_sample(cpu);
  bind_ops(cpu);
  bind_attention(cpu);
  py::module_ gpu = m.def_submodule("gpu", "GPU runtimes and what they are made of.");
  bind_gpu(gpu);
  bind_model(m);
  bind_standalone(m);
}
