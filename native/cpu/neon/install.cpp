#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_neon(Kernels& k) {
  install_neon_linear_float(k);
  install_neon_pack_panels(k);
  install_neon_panels_32(k);
  install_neon_panels_256(k);
  install_neon_panels_float(k);
  install_neon_quantize(k);
  install_neon_elementwise(k);
  install_neon_attend(k);
  install_neon_sample(k);
}

}  // namespace rocmforge::cpu
