#include "cpu/installers.hpp"
#include "cpu/panel/pack_body.hpp"

namespace rocmforge::cpu {
namespace {

template <class Block>
void install(PanelFns& fns, quant::Format format) {
  const auto i = static_cast<int>(format);
  fns.bytes[i] = PanelOf<Block>::bytes;
  if constexpr (PanelOf<Block>::kIsFloat)
    fns.pack[i] = pack_float_panel<Block>;
  else
    fns.pack[i] = pack_panel<Block>;
}

}  // namespace

void install_avx2_pack_panels(Kernels& k) {
#define RF_FORMAT(name, id, weights, bytes, Block, activation) \
  install<quant::Block>(k.panels, quant::Format::k##name);
#include "quant/formats.def"
#undef RF_FORMAT
}

}  // namespace rocmforge::cpu
