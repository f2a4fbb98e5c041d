// One GPU as this library uses it: its properties, a stream of its own, its kernels by name, and
// copies through pinned memory. Used by one thread at a time, which calls make_current() first.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "gpu/driver.hpp"
#include "include/launch.hpp"

namespace rocmforge::gpu {

struct DeviceProperties {
  std::string name;
  int wave_size = 0;
  std::int64_t num_multiprocessors = 0;
  std::int64_t max_threads = 0;  // of a block
  std::array<std::int64_t, 3> max_block{}, max_grid{};
  bool integrated = false;
};

DeviceProperties properties_of(Driver& driver, int ordinal);

class Device {
 public:
  // `code_object` is a file; the emulation has none. Throws Error(kUnsupported) for a driver,
  // device or file there is not.
  Device(const std::string& driver, int ordinal, const std::string& code_object);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  Driver& driver() { return *driver_; }
  Stream stream() const { return stream_; }
  const DeviceProperties& properties() const { return properties_; }
  void make_current() { driver_->make_current(ordinal_); }
  MemoryInfo memory() { return driver_->memory(); }
  // As the driver's, counted: a step allocates nothing.
  void* allocate(std::int64_t bytes);
  void* allocate_pinned(std::int64_t bytes);
  std::int64_t num_allocations() const { return num_allocations_; }

  // rf_<operation>_w<wave size>. Throws Error(kUnsupported) if the code object lacks it.
  Function kernel(const std::string& operation);
  // Null if the code object lacks it.
  Function find_kernel(const std::string& operation);
  template <class Args>
  void launch(Function f, const Grid& grid, const Args& args, int threads = kThreads) {
    launch(f, grid, threads, &args, sizeof(args));
  }
  // Of a library's, which it made itself.
  void count_launch() {
    if (!is_recording_) ++num_launches_;
  }
  std::int64_t num_launches() const { return num_launches_; }
  // The launches of `work`, written down instead of made. The caller destroys the graph.
  Graph record(const std::function<void()>& work);

  // Has `read` fill pinned memory with `bytes` from `at` on, piece by piece: one is read while
  // those before it are on their way. What it throws ends the copy.
  using Read = std::function<void(std::byte* piece, std::int64_t at, std::int64_t bytes)>;
  void to_device(void* to, std::int64_t bytes, const Read& read);
  // `from` may be any memory and be used again at once.
  void to_device(void* to, const void* from, std::int64_t bytes);
  // Waits for it.
  void to_host(void* to, const void* from, std::int64_t bytes);
  // Waits until the stream is done; Error(kDevice) if that takes longer than any step could.
  void wait();
  void wait(Event e);

 private:
  // Copies pass through these in pieces, one being filled while others are on their way. On the
  // device they have memory of their own too: copies to the host from the inside of a larger
  // allocation have failed on ROCm 7.1, see also hip issues 3314 and 3716.
  struct Piece {
    void* pinned = nullptr;
    void* device = nullptr;
    Event copied = nullptr;
  };

  void launch(Function f, const Grid& grid, int threads, const void* args, std::size_t bytes);
  void load_code(const std::string& path);

  std::unique_ptr<Driver> driver_;
  int ordinal_;
  DeviceProperties properties_;
  Stream stream_ = nullptr;
  Event idle_ = nullptr;
  Module module_ = nullptr;
  std::array<Piece, 4> pieces_;
  std::size_t next_piece_ = 0;
  std::unordered_map<std::string, Function> kernels_;
  bool is_recording_ = false;
  std::int64_t num_launches_ = 0, num_allocations_ = 0;
};

}  // namespace rocmforge::gpu
