#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_scalar_attend(Kernels&) {}

}  // namespace rocmforge::cpu
