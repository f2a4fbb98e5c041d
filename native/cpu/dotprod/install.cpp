#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_dotprod(Kernels& k) {
  install_dotprod_panels_32(k);
  install_dotprod_panels_256(k);
  install_dotprod_panels_float(k);
}

}  // namespace rocmforge::cpu
