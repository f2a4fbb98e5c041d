#include "api/buffer.hpp"

#include <cstring>
#include <optional>
#include <utility>

#include "core/buffer.hpp"
#include "gpu/device.hpp"

namespace rocmforge::api {

struct Buffer::Memory {
  Memory(const Device& where, std::int64_t bytes) : device(where) {
    check(bytes > 0, ErrorCode::kInvalidArgument, "a buffer has a positive size");
    if (!device.is_gpu()) {
      host = rocmforge::Buffer(static_cast<std::size_t>(bytes));
      data = static_cast<std::byte*>(host.data());
      return;
    }
    gpu.emplace(device.runtime(), device.ordinal(), device.options().code_object);
    gpu->make_current();
    data = static_cast<std::byte*>(gpu->allocate(bytes));
    gpu->driver().fill(data, 0, bytes, gpu->stream());
    gpu->wait();
  }
  ~Memory() {
    if (!gpu) return;
    try {
      gpu->make_current();
      gpu->driver().free(data);
    } catch (const Error&) {  // of a lost device, which frees nothing
    }
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  Device device;
  rocmforge::Buffer host;
  std::optional<gpu::Device> gpu;
  std::byte* data = nullptr;
};

Buffer::Buffer(const Device& device, std::int64_t bytes)
    : memory_(std::make_shared<Memory>(device, bytes)), bytes_(bytes) {}

Buffer::Buffer(std::shared_ptr<Memory> memory, std::int64_t offset, std::int64_t bytes)
    : memory_(std::move(memory)), offset_(offset), bytes_(bytes) {}

void* Buffer::data() const { return memory_->data + offset_; }
const Device& Buffer::device() const { return memory_->device; }

std::byte* Buffer::at(std::int64_t offset, std::int64_t bytes) const {
  if (offset < 0 || bytes < 0 || offset > bytes_ - bytes)
    throw Error(ErrorCode::kInvalidArgument, std::to_string(bytes) + " bytes at " +
                                                 std::to_string(offset) + " leave a buffer of " +
                                                 std::to_string(bytes_));
  return memory_->data + offset_ + offset;
}

Buffer Buffer::view(std::int64_t offset, std::int64_t bytes) const {
  static_cast<void>(at(offset, bytes));
  return {memory_, offset_ + offset, bytes};
}

void Buffer::write(const void* from, std::int64_t bytes, std::int64_t offset) {
  std::byte* to = at(offset, bytes);
  if (bytes == 0) return;
  if (!memory_->gpu) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    return;
  }
  memory_->gpu->make_current();
  memory_->gpu->to_device(to, from, bytes);
  memory_->gpu->wait();
}

void Buffer::read(void* to, std::int64_t bytes, std::int64_t offset) const {
  const std::byte* from = at(offset, bytes);
  if (bytes == 0) return;
  if (!memory_->gpu) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    return;
  }
  memory_->gpu->make_current();
  memory_->gpu->to_host(to, from, bytes);
}

}  // namespace rocmforge::api
