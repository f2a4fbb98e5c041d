#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_avx2(Kernels& k) {
  install_avx2_linear_float(k);
  install_avx2_pack_panels(k);
  install_avx2_panels_32(k);
  install_avx2_panels_256(k);
  install_avx2_panels_float(k);
  install_avx2_quantize(k);
  install_avx2_elementwise(k);
  install_avx2_attend(k);
  install_avx2_sample(k);
}

}  // namespace rocmforge::cpu
