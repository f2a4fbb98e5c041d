#include "core/slices.hpp"

#include <algorithm>

namespace rocmforge {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{64} << 20;  // pages not used take no memory
constexpr std::size_t kAlignment = 64;

}  // namespace

void* Slices::allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  if (buffers_.empty() || bytes > buffers_.back().bytes() - used_) {
    buffers_.emplace_back(std::max(bytes, kBufferBytes));
    used_ = 0;
  }
  void* slice = static_cast<std::byte*>(buffers_.back().data()) + used_;
  const std::size_t all = buffers_.back().bytes();
  used_ = std::min(all, (used_ + bytes + kAlignment - 1) / kAlignment * kAlignment);
  return slice;
}

}  // namespace rocmforge
