// The kernels of the host build, registered by the units that define them.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace rocmforge::gpu::host {

using KernelFn = void (*)(const void* args);

struct Kernel {
  std::string_view name;
  std::size_t args_bytes;
  int wave, threads;
  KernelFn run;
};

bool register_kernel(const Kernel& kernel);        // before main() alone; true
const std::vector<Kernel>& kernels();              // sorted by name
const Kernel* find_kernel(std::string_view name);  // null: there is none of that name

}  // namespace rocmforge::gpu::host
