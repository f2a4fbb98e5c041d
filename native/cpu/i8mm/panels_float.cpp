#include "cpu/i8mm/iv.hpp"
// The body uses Iv, Dot and TileDots.
#include "cpu/installers.hpp"
#include "cpu/panel/float_body.hpp"

namespace rocmforge::cpu {

void install_i8mm_panels_float(Kernels& k) {
  k.panels.few_group = Iv::kFewGroup;
  k.panels.many_group = Iv::kManyGroup;
  install_float_panels(k);
}

}  // namespace rocmforge::cpu
