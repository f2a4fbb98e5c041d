#include "cpu/avx512/vec.hpp"
// The bodies use Vec.
#include "cpu/elementwise_body.hpp"
#include "cpu/installers.hpp"

namespace rocmforge::cpu {
namespace {

void store_f16(void* y, const float* x, std::int64_t n) {
  auto* out = static_cast<std::uint16_t*>(y);
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                        _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; ++i) out[i] = quant::float_to_half(x[i]);
}

}  // namespace

void install_avx512_elementwise(Kernels& k) {
  install_bodies(k);
  k.store_kv[static_cast<int>(KvType::kF16)] = store_f16;
}

}  // namespace rocmforge::cpu
