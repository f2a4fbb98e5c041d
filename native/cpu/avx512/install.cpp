#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_avx512(Kernels& k) {
  install_avx512_panels_32(k);
  install_avx512_panels_256(k);
  install_avx512_panels_float(k);
  install_avx512_elementwise(k);
  install_avx512_attend(k);
  install_avx512_sample(k);
}

}  // namespace rocmforge::cpu
