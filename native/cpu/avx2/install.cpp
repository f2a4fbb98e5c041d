#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_avx2(Kernels& k) {
  install_avx2_elementwise(k);
  install_avx2_attend(k);
}

}  // namespace rocmforge::cpu
