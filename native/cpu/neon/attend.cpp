#include "cpu/neon/vec.hpp"
// The body uses Vec.
#include "cpu/attend_body.hpp"
#include "cpu/installers.hpp"

namespace rocmforge::cpu {

void install_neon_attend(Kernels& k) {
  k.attend[static_cast<int>(KvType::kF16)] = attend_body<F16>;
  k.attend[static_cast<int>(KvType::kBf16)] = attend_body<Bf16>;
  k.attend[static_cast<int>(KvType::kQ8_0)] = attend_body<Q8>;
  k.attend[static_cast<int>(KvType::kF32)] = attend_body<F32>;
}

}  // namespace rocmforge::cpu
