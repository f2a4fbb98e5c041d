#include "core/tensor.hpp"

#include <sys/mman.h>
#include <unistd.h>

namespace rocmforge {

void release_pages(const Tensor& t) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(t.data);
  const std::uintptr_t first = (begin + page - 1) / page * page;
  const std::uintptr_t last = (begin + static_cast<std::uintptr_t>(t.bytes())) / page * page;
  // Advice only: failure is no error.
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace rocmforge
