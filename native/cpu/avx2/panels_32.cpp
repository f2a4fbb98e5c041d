#include "cpu/avx2/iv.hpp"
#include "cpu/installers.hpp"
#include "cpu/panel/multiply_body.hpp"

namespace rocmforge::cpu {

void install_avx2_panels_32(Kernels& k) {
  k.panels.multiply[static_cast<int>(quant::Format::kQ4_0)] = multiply<quant::BlockQ4_0>;
  k.panels.multiply[static_cast<int>(quant::Format::kQ4_1)] = multiply<quant::BlockQ4_1>;
  k.panels.multiply[static_cast<int>(quant::Format::kQ5_0)] = multiply<quant::BlockQ5_0>;
  k.panels.multiply[static_cast<int>(quant::Format::kQ5_1)] = multiply<quant::BlockQ5_1>;
  k.panels.multiply[static_cast<int>(quant::Format::kQ8_0)] = multiply<quant::BlockQ8_0>;
  k.panels.multiply[static_cast<int>(quant::Format::kIQ4_NL)] = multiply<quant::BlockIQ4_NL>;
  k.panels.multiply[static_cast<int>(quant::Format::kMXFP4)] = multiply<quant::BlockMXFP4>;
}

}  // namespace rocmforge::cpu
