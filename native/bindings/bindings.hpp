#pragma once

#include <pybind11/pybind11.h>

namespace rocmforge::bindings {

void bind_build(pybind11::module_& m);
void bind_errors();
void bind_quant(pybind11::module_& m);
void bind_quantizer(pybind11::module_& m);
void bind_cpu(pybind11::module_& m);
void bind_gemm(pybind11::module_& cpu);
void bind_sample(pybind11::module_& m);
void bind_ops(pybind11::module_& cpu);
void bind_attention(pybind11::module_& cpu);
void bind_gpu(pybind11::module_& m);
void bind_model(pybind11::module_& m);
void bind_standalone(pybind11::module_& m);

}  // namespace rocmforge::bindings
