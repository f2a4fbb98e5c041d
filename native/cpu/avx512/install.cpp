#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_avx512(Kernels& k) {
  install_avx512_linear_float(k);
  install_avx512_linear_q8x32(k);
  install_avx512_linear_q8x256(k);
  install_avx512_elementwise(k);
  install_avx512_attend(k);
  install_avx512_sample(k);
}

}  // namespace rocmforge::cpu
