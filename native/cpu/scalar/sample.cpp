#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_scalar_sample(Kernels&) {}

}  // namespace rocmforge::cpu
