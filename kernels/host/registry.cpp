#include "host/registry.hpp"

#include <algorithm>

namespace rocmforge::gpu::host {
namespace {

std::vector<Kernel>& registered() {
  static std::vector<Kernel> all;
  return all;
}

bool by_name(const Kernel& a, const Kernel& b) { return a.name < b.name; }

}  // namespace

bool register_kernel(const Kernel& kernel) {
  registered().push_back(kernel);
  return true;
}

const std::vector<Kernel>& kernels() {
  static const bool sorted = (std::sort(registered().begin(), registered().end(), by_name), true);
  (void)sorted;
  return registered();
}

const Kernel* find_kernel(std::string_view name) {
  const std::vector<Kernel>& all = kernels();
  const auto at = std::lower_bound(all.begin(), all.end(), Kernel{name, 0, 0, 0, nullptr}, by_name);
  return at != all.end() && at->name == name ? &*at : nullptr;
}

}  // namespace rocmforge::gpu::host
