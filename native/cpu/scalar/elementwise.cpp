#include "cpu/scalar/vec.hpp"
// The bodies use Vec.
#include "cpu/elementwise_body.hpp"
#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

void store_f16(void* y, const float* x, std::int64_t n) {
  const auto* end = x + n;
  for (auto* out = static_cast<std::uint16_t*>(y); x != end;) *out++ = quant::float_to_half(*x++);
}

}  // namespace

void install_scalar_elementwise(Kernels& k) {
  install_bodies(k);
  k.store_kv[static_cast<int>(KvType::kF16)] = store_f16;
}

}  // namespace rocmforge::cpu
