#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_avx2(Kernels&) {}

}  // namespace rocmforge::cpu
