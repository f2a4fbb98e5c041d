// What Python calls by name: formats, ISA levels, cache element types. Unknown names are errors
// that list the known ones.
#pragma once

#include <optional>
#include <string>

#include "cpu/kernels.hpp"
#include "model/kv_type.hpp"
#include "quant/formats.hpp"

namespace rocmforge::bindings {

quant::Format format_named(const std::string& name);
KvType kv_type_named(const std::string& name);
cpu::Kernels kernels_named(const std::optional<std::string>& isa);  // none: the best of this CPU

}  // namespace rocmforge::bindings
