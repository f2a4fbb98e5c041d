#include <cstdlib>
#include <string>

#include "core/error.hpp"
#include "cpu/kernels.hpp"

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace rocmforge::cpu {
namespace {

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

// Linux hands out the tile registers on request, once for the process and its later threads; it
// refuses when a thread's signal stack could not hold them, and before 5.16 it does not know them.
bool may_use_tiles() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
  static const bool granted = ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}
#elif defined(__aarch64__)
// Bits of asm/hwcap.h, the second of which older headers lack.
bool has_dotprod() {
  constexpr unsigned long kDotProducts = 1ul << 20;  // HWCAP_ASIMDDP
  return (::getauxval(AT_HWCAP) & kDotProducts) != 0;
}

bool has_i8mm() {
  constexpr unsigned long kMatrixProducts = 1ul << 13;  // HWCAP2_I8MM
  return has_dotprod() && (::getauxval(AT_HWCAP2) & kMatrixProducts) != 0;
}
#endif

struct Level {
  Isa isa;
  std::string_view name;
  bool (*supported)();
  void (*install)(Kernels&);
};

// Slowest first. kernels_for() applies them in this order up to the wanted one.
// __builtin_cpu_supports also asks the OS whether it saves the registers (XGETBV).
constexpr Level kLevels[] = {
    {Isa::kScalar, "scalar", [] { return true; }, install_scalar},
#if defined(__x86_64__)
    {Isa::kAvx2, "avx2", has_avx2, install_avx2},
    {Isa::kAvx512, "avx512", has_avx512, install_avx512},
    {Isa::kAmx, "amx",
     [] {
       return has_avx512() && __builtin_cpu_supports("avx512bf16") &&
              __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
              __builtin_cpu_supports("amx-int8") && may_use_tiles();
     },
     install_amx},
#elif defined(__aarch64__)
    {Isa::kNeon, "neon", [] { return true; }, install_neon},  // part of the base architecture
    {Isa::kDotprod, "dotprod", has_dotprod, install_dotprod},
    {Isa::kI8mm, "i8mm", has_i8mm, install_i8mm},
#endif
};

}  // namespace

std::string_view name(Isa isa) {
  for (const Level& l : kLevels)
    if (l.isa == isa) return l.name;
  return "unknown";
}

std::vector<Isa> built_isas() {
  std::vector<Isa> isas;
  for (const Level& l : kLevels) isas.push_back(l.isa);
  return isas;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const Level& l : kLevels)
    if (l.supported()) isas.push_back(l.isa);
  return isas;
}

Kernels kernels_for(Isa isa) {
  Kernels k{};
  for (const Level& l : kLevels) {
    if (l.supported()) {
      l.install(k);
      k.isa = l.isa;
    }
    if (l.isa == isa) break;
  }
  if (k.isa != isa)
    throw Error(ErrorCode::kUnsupported, "no " + std::string(name(isa)) + " kernels on this CPU");
  return k;
}

const Kernels& kernels() {
  static const Kernels best = [] {
    const char* forced = std::getenv("ROCMFORGE_CPU_ISA");
    if (!forced) return kernels_for(available_isas().back());
    std::string known;
    for (const Level& l : kLevels) {
      if (l.name == forced) return kernels_for(l.isa);
      known += " " + std::string(l.name);
    }
    throw Error(ErrorCode::kInvalidArgument, "ROCMFORGE_CPU_ISA=" + std::string(forced) +
                                                 " is not an ISA this build knows; it has" + known);
  }();
  return best;
}

}  // namespace rocmforge::cpu
