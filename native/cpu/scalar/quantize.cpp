#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_scalar_quantize(Kernels&) {}

}  // namespace rocmforge::cpu
