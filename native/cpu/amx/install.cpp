#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_amx(Kernels& k) {
  install_amx_panels(k);
  install_amx_pack(k);
  install_amx_gemm(k);
  install_amx_attend(k);
}

}  // namespace rocmforge::cpu
