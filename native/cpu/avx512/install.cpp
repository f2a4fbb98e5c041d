#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_avx512(Kernels&) {}

}  // namespace rocmforge::cpu
