#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_i8mm(Kernels& k) {
  install_i8mm_panels_32(k);
  install_i8mm_panels_256(k);
  install_i8mm_panels_float(k);
}

}  // namespace rocmforge::cpu
