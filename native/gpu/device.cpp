#include "gpu/device.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "core/error.hpp"

namespace rocmforge::gpu {
namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{4} << 20;
// Longer than a token takes: a thread that sleeps wakes up some 60 us late.
constexpr std::chrono::microseconds kSpin{5000};
constexpr std::chrono::seconds kTimeout{120};

std::unique_ptr<Driver> driver_with(const std::string& name, int ordinal) {
  std::unique_ptr<Driver> driver = open_driver(name);
  const int count = driver->device_count();
  if (ordinal < 0 || ordinal >= count)
    throw Error(ErrorCode::kUnsupported, "device " + name + ":" + std::to_string(ordinal) +
                                             ": there are " + std::to_string(count) +
                                             " devices of that kind");
  return driver;
}

}  // namespace

DeviceProperties properties_of(Driver& driver, int ordinal) {
  const auto get = [&](Attribute a) { return driver.attribute(ordinal, a); };
  DeviceProperties p;
  p.name = driver.device_name(ordinal);
  p.wave_size = static_cast<int>(get(Attribute::kWaveSize));
  p.num_multiprocessors = get(Attribute::kNumMultiprocessors);
  p.max_threads = get(Attribute::kMaxThreadsPerBlock);
  p.max_block = {get(Attribute::kMaxBlockX), get(Attribute::kMaxBlockY),
                 get(Attribute::kMaxBlockZ)};
  p.max_grid = {get(Attribute::kMaxGridX), get(Attribute::kMaxGridY), get(Attribute::kMaxGridZ)};
  p.integrated = get(Attribute::kIntegrated) != 0;
  return p;
}

Device::Device(const std::string& driver, int ordinal, const std::string& code_object)
    : driver_(driver_with(driver, ordinal)),
      ordinal_(ordinal),
      properties_(properties_of(*driver_, ordinal)) {
  check(properties_.wave_size == 32 || properties_.wave_size == 64, ErrorCode::kUnsupported,
        "the device has waves of neither 32 nor 64 threads");
  check(properties_.max_threads >= kThreads && properties_.max_block[0] >= kThreads,
        ErrorCode::kUnsupported, "the device does not take blocks of 256 threads");
  make_current();
  load_code(code_object);
  stream_ = driver_->create_stream();
  idle_ = driver_->create_event(/*timed=*/false);
  for (Piece& piece : pieces_) {
    piece.pinned = allocate_pinned(kPieceBytes);
    piece.device = allocate(kPieceBytes);
    piece.copied = driver_->create_event(/*timed=*/false);
  }
}

Device::~Device() {
  try {
    make_current();
    driver_->synchronize(stream_);
    for (const Piece& piece : pieces_) {
      driver_->destroy(piece.copied);
      driver_->free(piece.device);
      driver_->free_pinned(piece.pinned);
    }
    driver_->destroy(idle_);
    driver_->destroy(stream_);
    driver_->unload(module_);
  } catch (const Error&) {  // of a lost device, which frees nothing
  }
}

void Device::load_code(const std::string& path) {
  std::vector<char> image;
  if (driver_->name() != "host") {
    std::ifstream file(path, std::ios::binary);
    image.assign(std::istreambuf_iterator<char>(file), {});
    if (!file || image.empty())
      throw Error(ErrorCode::kUnsupported, "no code object for " + properties_.name + ": " + path);
  }
  module_ = driver_->load_module(image.data());
}

void* Device::allocate(std::int64_t bytes) {
  ++num_allocations_;
  return driver_->allocate(bytes);
}

void* Device::allocate_pinned(std::int64_t bytes) {
  ++num_allocations_;
  return driver_->allocate_pinned(bytes);
}

Function Device::kernel(const std::string& operation) {
  const auto [it, is_new] = kernels_.try_emplace(operation, nullptr);
  if (is_new) {
    try {
      it->second = driver_->function(
          module_, "rf_" + operation + "_w" + std::to_string(properties_.wave_size));
    } catch (...) {
      kernels_.erase(it);
      throw;
    }
  }
  return it->second;
}

Function Device::find_kernel(const std::string& operation) {
  try {
    return kernel(operation);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kUnsupported) throw;
    return nullptr;
  }
}

void Device::launch(Function f, const Grid& grid, int threads, const void* args,
                    std::size_t bytes) {
  const std::array<std::int64_t, 3> sizes{grid.x, grid.y, grid.z};
  for (std::size_t i = 0; i < 3; ++i)
    if (sizes[i] < 1 || sizes[i] > properties_.max_grid[i])
      throw Error(ErrorCode::kInternal, "a grid of " + std::to_string(sizes[i]) +
                                            " blocks in direction " + std::string(1, "xyz"[i]) +
                                            "; the device takes 1 to " +
                                            std::to_string(properties_.max_grid[i]));
  count_launch();
  driver_->launch(f,
                  {{static_cast<std::uint32_t>(grid.x), static_cast<std::uint32_t>(grid.y),
                    static_cast<std::uint32_t>(grid.z)},
                   {static_cast<std::uint32_t>(threads), 1, 1},
                   0},
                  args, bytes, stream_);
}

Graph Device::record(const std::function<void()>& work) {
  driver_->begin_capture(stream_);
  is_recording_ = true;
  try {
    work();
  } catch (...) {
    is_recording_ = false;
    driver_->destroy(driver_->end_capture(stream_));
    throw;
  }
  is_recording_ = false;
  return driver_->end_capture(stream_);
}

void Device::to_device(void* to, const void* from, std::int64_t bytes) {
  to_device(to, bytes, [from](std::byte* piece, std::int64_t at, std::int64_t n) {
    std::memcpy(piece, static_cast<const std::byte*>(from) + at, static_cast<std::size_t>(n));
  });
}

void Device::to_device(void* to, std::int64_t bytes, const Read& read) {
  for (std::int64_t at = 0; at < bytes; at += kPieceBytes) {
    const Piece& piece = pieces_[next_piece_];
    next_piece_ = (next_piece_ + 1) % pieces_.size();
    const std::int64_t n = std::min(kPieceBytes, bytes - at);
    wait(piece.copied);
    read(static_cast<std::byte*>(piece.pinned), at, n);
    driver_->copy_to_device(static_cast<std::byte*>(to) + at, piece.pinned, n, stream_);
    driver_->record(piece.copied, stream_);
  }
}

void Device::to_host(void* to, const void* from, std::int64_t bytes) {
  const std::int64_t num_pieces = (bytes + kPieceBytes - 1) / kPieceBytes;
  const auto size = [&](std::int64_t i) { return std::min(kPieceBytes, bytes - i * kPieceBytes); };
  for (std::int64_t i = 0; i <= num_pieces; ++i) {
    if (i < num_pieces) {
      const Piece& piece = pieces_[static_cast<std::size_t>(i) % pieces_.size()];
      wait(piece.copied);  // the pinned memory may still be on its way to the device
      driver_->copy_on_device(piece.device, static_cast<const std::byte*>(from) + i * kPieceBytes,
                              size(i), stream_);
      driver_->copy_to_host(piece.pinned, piece.device, size(i), stream_);
      driver_->record(piece.copied, stream_);
    }
    if (i > 0) {
      const Piece& piece = pieces_[static_cast<std::size_t>(i - 1) % pieces_.size()];
      wait(piece.copied);
      std::memcpy(static_cast<std::byte*>(to) + (i - 1) * kPieceBytes, piece.pinned,
                  static_cast<std::size_t>(size(i - 1)));
    }
  }
}

void Device::wait() {
  driver_->record(idle_, stream_);
  wait(idle_);
}

void Device::wait(Event e) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  while (!driver_->done(e)) {
    const Clock::duration waited = Clock::now() - start;
    if (waited > kTimeout)
      throw Error(ErrorCode::kDevice, properties_.name + " has not finished its work in " +
                                          std::to_string(kTimeout.count()) + " s");
    if (waited > kSpin) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

}  // namespace rocmforge::gpu
