// Memory of a device. Copies are done when a call returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "api/device.hpp"

namespace rocmforge::api {

class RF_API Buffer {
 public:
  // Zeros.
  Buffer(const Device& device, std::int64_t bytes);

  void* data() const;  // an address of the device
  std::int64_t bytes() const { return bytes_; }
  const Device& device() const;

  // A part of the same memory, which lives as long as any buffer of it.
  Buffer view(std::int64_t offset, std::int64_t bytes) const;
  void write(const void* from, std::int64_t bytes, std::int64_t offset = 0);
  void read(void* to, std::int64_t bytes, std::int64_t offset = 0) const;

 private:
  struct Memory;
  Buffer(std::shared_ptr<Memory> memory, std::int64_t offset, std::int64_t bytes);
  std::byte* at(std::int64_t offset, std::int64_t bytes) const;

  std::shared_ptr<Memory> memory_;
  std::int64_t offset_ = 0, bytes_ = 0;
};

}  // namespace rocmforge::api
