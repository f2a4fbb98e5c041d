#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_scalar(Kernels& k) {
  install_scalar_linear(k);
  install_scalar_quantize(k);
  install_scalar_elementwise(k);
  install_scalar_attend(k);
  install_scalar_sample(k);
}

}  // namespace rocmforge::cpu
