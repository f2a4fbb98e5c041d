#include "cpu/avx512/iv.hpp"
#include "cpu/installers.hpp"
#include "cpu/panel/float_body.hpp"

namespace rocmforge::cpu {

void install_avx512_panels_float(Kernels& k) {
  k.panels.many_group = Iv::kManyGroup;
  k.panels.multiply[static_cast<int>(quant::Format::kF32)] = multiply_floats<quant::BlockF32>;
  k.panels.multiply[static_cast<int>(quant::Format::kF16)] = multiply_floats<quant::BlockF16>;
  k.panels.multiply[static_cast<int>(quant::Format::kBF16)] = multiply_floats<quant::BlockBF16>;
}

}  // namespace rocmforge::cpu
