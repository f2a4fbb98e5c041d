#include "cpu/neon/iv.hpp"
#include "cpu/panel/tile_dots.hpp"
// The body uses Iv, Dot and TileDots.
#include "cpu/installers.hpp"
#include "cpu/panel/multiply_body.hpp"

namespace rocmforge::cpu {

void install_neon_panels_32(Kernels& k) { install_quantized_panels<32>(k); }

}  // namespace rocmforge::cpu
