#include "cpu/neon/iv.hpp"
#include "cpu/panel/tile_dots.hpp"
// The body uses Iv, Dot and TileDots.
#include "cpu/installers.hpp"
#include "cpu/panel/float_body.hpp"

namespace rocmforge::cpu {

void install_neon_panels_float(Kernels& k) {
  k.panels.few_group = Iv::kFewGroup;
  k.panels.many_group = Iv::kManyGroup;
  install_float_panels(k);
}

}  // namespace rocmforge::cpu
