#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_scalar_elementwise(Kernels&) {}

}  // namespace rocmforge::cpu
