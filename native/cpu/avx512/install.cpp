#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_avx512(Kernels& k) {
  install_avx512_elementwise(k);
  install_avx512_attend(k);
}

}  // namespace rocmforge::cpu
