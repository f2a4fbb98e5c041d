#include "cpu/installers.hpp"
#include "cpu/panel/pack_body.hpp"

namespace rocmforge::cpu {

void install_neon_pack_panels(Kernels& k) { install_packing(k.panels); }

}  // namespace rocmforge::cpu
