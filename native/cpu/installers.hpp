// The per-file installers that an ISA directory's install.cpp strings together.
#pragma once

#include "cpu/kernels.hpp"

namespace rocmforge::cpu {

void install_scalar_linear(Kernels& k);
void install_scalar_quantize(Kernels& k);
void install_scalar_elementwise(Kernels& k);
void install_scalar_attend(Kernels& k);
void install_scalar_sample(Kernels& k);

void install_avx2_linear_float(Kernels& k);
void install_avx2_pack_panels(Kernels& k);
void install_avx2_panels_32(Kernels& k);
void install_avx2_panels_256(Kernels& k);
void install_avx2_panels_float(Kernels& k);
void install_avx2_quantize(Kernels& k);
void install_avx2_elementwise(Kernels& k);
void install_avx2_attend(Kernels& k);
void install_avx2_sample(Kernels& k);

void install_avx512_panels_32(Kernels& k);
void install_avx512_panels_256(Kernels& k);
void install_avx512_panels_float(Kernels& k);
void install_avx512_elementwise(Kernels& k);
void install_avx512_attend(Kernels& k);
void install_avx512_sample(Kernels& k);

void install_neon_linear_float(Kernels& k);
void install_neon_pack_panels(Kernels& k);
void install_neon_panels_32(Kernels& k);
void install_neon_panels_256(Kernels& k);
void install_neon_panels_float(Kernels& k);
void install_neon_quantize(Kernels& k);
void install_neon_elementwise(Kernels& k);
void install_neon_attend(Kernels& k);
void install_neon_sample(Kernels& k);

void install_dotprod_panels_32(Kernels& k);
void install_dotprod_panels_256(Kernels& k);
void install_dotprod_panels_float(Kernels& k);

void install_i8mm_panels_32(Kernels& k);
void install_i8mm_panels_256(Kernels& k);
void install_i8mm_panels_float(Kernels& k);

void install_amx_panels(Kernels& k);
void install_amx_pack(Kernels& k);
void install_amx_gemm(Kernels& k);
void install_amx_attend(Kernels& k);

}  // namespace rocmforge::cpu
