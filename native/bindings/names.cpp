#include "bindings/names.hpp"

#include "core/error.hpp"

namespace rocmforge::bindings {

quant::Format format_named(const std::string& name) {
  std::string known;
  for (int i = 0; i < quant::kNumFormats; ++i) {
    const auto format = static_cast<quant::Format>(i);
    if (quant::info(format).name == name) return format;
    known += " " + std::string(quant::info(format).name);
  }
  throw Error(ErrorCode::kUnsupported,
              "no kernels for tensor format '" + name + "'; there are some for" + known);
}

KvType kv_type_named(const std::string& name) {
  std::string known;
  for (int i = 0; i < kNumKvTypes; ++i) {
    const auto type = static_cast<KvType>(i);
    if (info(type).name == name) return type;
    known += " " + std::string(info(type).name);
  }
  throw Error(ErrorCode::kInvalidArgument, "kv_dtype is '" + name + "', which is none of" + known);
}

cpu::Kernels kernels_named(const std::optional<std::string>& isa) {
  if (!isa) return cpu::kernels();
  std::string known;
  for (const cpu::Isa candidate : cpu::available_isas()) {
    if (cpu::name(candidate) == *isa) return cpu::kernels_for(candidate);
    known += " " + std::string(cpu::name(candidate));
  }
  throw Error(ErrorCode::kUnsupported, "isa '" + *isa + "' is not one of this CPU's:" + known);
}

}  // namespace rocmforge::bindings
