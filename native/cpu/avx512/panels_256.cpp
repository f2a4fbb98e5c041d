#include "cpu/avx512/iv.hpp"
#include "cpu/installers.hpp"
#include "cpu/panel/multiply_body.hpp"

namespace rocmforge::cpu {

void install_avx512_panels_256(Kernels& k) {
  k.panels.multiply[static_cast<int>(quant::Format::kQ2_K)] = multiply<quant::BlockQ2_K>;
  k.panels.multiply[static_cast<int>(quant::Format::kQ3_K)] = multiply<quant::BlockQ3_K>;
  k.panels.multiply[static_cast<int>(quant::Format::kQ4_K)] = multiply<quant::BlockQ4_K>;
  k.panels.multiply[static_cast<int>(quant::Format::kQ5_K)] = multiply<quant::BlockQ5_K>;
  k.panels.multiply[static_cast<int>(quant::Format::kQ6_K)] = multiply<quant::BlockQ6_K>;
  k.panels.multiply[static_cast<int>(quant::Format::kIQ4_XS)] = multiply<quant::BlockIQ4_XS>;
}

}  // namespace rocmforge::cpu
