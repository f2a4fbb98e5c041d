#include "cpu/neon/vec.hpp"
// The bodies use Vec.
#include "cpu/elementwise_body.hpp"
#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

// In the rounding mode a thread starts with: nearest, ties to even.
void store_f16(void* y, const float* x, std::int64_t n) {
  auto* out = static_cast<std::uint16_t*>(y);
  std::int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
  for (; i < n; ++i) out[i] = quant::float_to_half(x[i]);
}

}  // namespace

void install_neon_elementwise(Kernels& k) {
  install_bodies(k);
  k.store_kv[static_cast<int>(KvType::kF16)] = store_f16;
}

}  // namespace rocmforge::cpu
