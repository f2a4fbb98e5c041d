#include "gpu/copy_bandwidth.hpp"

#include <algorithm>
#include <memory>

#include "gpu/driver.hpp"

namespace rocmforge::gpu {
namespace {

constexpr int kCopies = 10;

// Gives back what was made, in whatever state an error leaves it.
struct Resources {
  Driver& driver;
  void* from = nullptr;
  void* to = nullptr;
  Stream stream = nullptr;
  Event begin = nullptr, end = nullptr;

  ~Resources() {
    if (begin) driver.destroy(begin);
    if (end) driver.destroy(end);
    if (stream) driver.destroy(stream);
    if (from) driver.free(from);
    if (to) driver.free(to);
  }
};

}  // namespace

double copy_bandwidth(const std::string& name, int ordinal, std::int64_t bytes) {
  const std::unique_ptr<Driver> driver = open_driver(name);
  driver->make_current(ordinal);
  Resources r{*driver};
  r.from = driver->allocate(bytes);
  r.to = driver->allocate(bytes);
  r.stream = driver->create_stream();
  r.begin = driver->create_event(true);
  r.end = driver->create_event(true);
  driver->fill(r.from, 1, bytes, r.stream);
  double best = 0.0;
  for (int i = 0; i < kCopies; ++i) {
    driver->record(r.begin, r.stream);
    driver->copy_on_device(r.to, r.from, bytes, r.stream);
    driver->record(r.end, r.stream);
    driver->synchronize(r.end);
    const double seconds = 1e-3 * static_cast<double>(driver->elapsed_ms(r.begin, r.end));
    if (seconds > 0.0) best = std::max(best, 2.0 * static_cast<double>(bytes) / seconds);
  }
  return best;
}

}  // namespace rocmforge::gpu
