#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_scalar_linear(Kernels&) {}

}  // namespace rocmforge::cpu
