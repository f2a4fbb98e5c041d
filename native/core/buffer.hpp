// Owned host memory: page-aligned, zero-filled by the kernel on first touch, in huge pages where
// the system grants them: reads of whole weights and caches lose up to a fifth to page walks
// otherwise.
#pragma once

#include <cstddef>

namespace rocmforge {

class Buffer {
 public:
  Buffer() = default;
  // Throws Error(kOutOfMemory) naming the size. `bytes` may be 0.
  explicit Buffer(std::size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  void* data() const noexcept { return data_; }
  float* floats() const noexcept { return static_cast<float*>(data_); }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace rocmforge
