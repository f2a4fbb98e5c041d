#include "cpu/installers.hpp"
#include "cpu/panel/pack_body.hpp"

namespace rocmforge::cpu {

void install_avx2_pack_panels(Kernels& k) { install_packing(k.panels); }

}  // namespace rocmforge::cpu
