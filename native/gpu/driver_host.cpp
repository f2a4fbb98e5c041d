// The emulation of a GPU by this process: kernels are those compiled for the host, device memory is
// host memory with an inaccessible page behind every allocation, so that what runs past an end
// ends the process instead of reading something.
//
// Bit 0 of a device's number chooses waves of 32 or 64 threads. Devices 2 and 3 delay: work of
// their streams waits until somebody waits for it, and a copy whose host memory was written between
// queueing and running is reported, which on real hardware is a wrong result once in a while.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "gpu/driver.hpp"
#include "gpu/emulation.hpp"
#include "host/host_launch.hpp"

namespace rocmforge::gpu {

struct Work {
  std::function<void()> run;
  const void* source = nullptr;  // host memory it reads
  std::int64_t bytes = 0;
  std::uint64_t checksum = 0;
};

struct StreamHandle {
  bool delays;
  std::deque<Work> queue;
  std::uint64_t num_queued = 0, num_run = 0;
  std::vector<Work>* capture = nullptr;
};

struct EventHandle {
  StreamHandle* stream = nullptr;  // null: never recorded, or its stream is gone and all done
  std::uint64_t position = 0;      // in the stream's work
  std::chrono::steady_clock::time_point time;
};

struct FunctionHandle {
  std::string kernel;
};

struct GraphHandle {
  std::vector<Work> work;
};

namespace {

constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kAlignment = 16;  // the widest load of a kernel
constexpr int kNumDevices = 4;

std::atomic<std::int64_t> allocations_until_fault{0}, calls_until_loss{0}, memory_bytes{0};
std::atomic<bool> lost{false}, graphs_are_stale{false};

// FNV-1a over words, then over the rest.
std::uint64_t checksum_of(const void* data, std::int64_t bytes) {
  constexpr std::uint64_t kPrime = 0x100000001b3;
  std::uint64_t sum = 0xcbf29ce484222325;
  const auto* p = static_cast<const unsigned char*>(data);
  for (; bytes >= 8; bytes -= 8, p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    sum = (sum ^ word) * kPrime;
  }
  for (; bytes > 0; --bytes, ++p) sum = (sum ^ *p) * kPrime;
  return sum;
}

void fail_if_lost() {
  if (!lost && calls_until_loss > 0 && --calls_until_loss == 0) lost = true;
  if (lost) throw Error(ErrorCode::kDevice, "the emulated device was lost on purpose");
}

// Memory in whole pages with an inaccessible one behind; blocks end there.
class GuardedMemory {
 public:
  ~GuardedMemory() {
    while (!blocks_.empty()) release(blocks_.begin()->first);
  }

  // `limit`: of all together; 0 for none.
  void* allocate(std::int64_t bytes, const char* kind, std::int64_t limit) {
    const bool fails = (allocations_until_fault > 0 && --allocations_until_fault == 0) ||
                       (limit > 0 && bytes > limit - bytes_);
    const std::int64_t pages = (bytes + kPage - 1) / kPage * kPage;
    void* base = MAP_FAILED;
    if (!fails)
      base = ::mmap(nullptr, static_cast<std::size_t>(pages + kPage), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
      throw Error(ErrorCode::kOutOfMemory,
                  "cannot allocate " + std::to_string(bytes) + " bytes of " + kind + " memory");
    auto* end = static_cast<std::byte*>(base) + pages;
    ::mprotect(end, kPage, PROT_NONE);
    std::byte* p = end - (bytes + kAlignment - 1) / kAlignment * kAlignment;
    std::memset(p, 0xff, static_cast<std::size_t>(bytes));  // NaN, for who reads before writing
    blocks_[p] = {base, pages + kPage, bytes};
    bytes_ += bytes;
    return p;
  }

  void release(void* p) {
    const auto it = blocks_.find(static_cast<std::byte*>(p));
    if (it == blocks_.end())
      throw Error(ErrorCode::kDevice, "freed memory is not an allocation of this device");
    ::munmap(it->second.base, static_cast<std::size_t>(it->second.mapped));
    bytes_ -= it->second.bytes;
    blocks_.erase(it);
  }

  std::int64_t bytes() const { return bytes_; }

  bool contains(const void* p, std::int64_t bytes) const {
    auto* at = static_cast<std::byte*>(const_cast<void*>(p));
    auto it = blocks_.upper_bound(at);
    if (it == blocks_.begin()) return false;
    --it;
    return at + bytes <= it->first + it->second.bytes;
  }

 private:
  struct Block {
    void* base;
    std::int64_t mapped, bytes;
  };
  std::map<std::byte*, Block> blocks_;
  std::int64_t bytes_ = 0;
};

class HostDriver final : public Driver {
 public:
  std::string_view name() const override { return "host"; }
  int device_count() override { return kNumDevices; }
  std::string device_name(int device) override {
    return "emulation in waves of " + std::to_string(attribute(device, Attribute::kWaveSize)) +
           (device & 2 ? ", work delayed" : "");
  }

  std::int64_t attribute(int device, Attribute a) override {
    switch (a) {
      case Attribute::kWaveSize:
        return device & 1 ? 64 : 32;
      case Attribute::kNumMultiprocessors:
        return 2;
      case Attribute::kMaxThreadsPerBlock:
      case Attribute::kMaxBlockX:
      case Attribute::kMaxBlockY:
        return 1024;
      case Attribute::kMaxBlockZ:
        return 64;
      case Attribute::kMaxGridX:
        return INT32_MAX;
      case Attribute::kMaxGridY:
      case Attribute::kMaxGridZ:
        return 65535;
      case Attribute::kMaxSharedBytes:
        return 65536;
      case Attribute::kIntegrated:
        return 1;
      case Attribute::kL2Bytes:
      case Attribute::kRunTimeLimit:
      case Attribute::kCapabilityMajor:
      case Attribute::kCapabilityMinor:
      case Attribute::kPciDomain:
      case Attribute::kPciBus:
      case Attribute::kPciDevice:
        return 0;
    }
    throw Error(ErrorCode::kInternal, "an attribute the emulation does not know");
  }

  void make_current(int device) override {
    if (device < 0 || device >= kNumDevices)
      throw Error(ErrorCode::kDevice, "the emulation has no device " + std::to_string(device));
    device_ = device;
  }

  MemoryInfo memory() override {
    const std::int64_t limit = memory_bytes;
    if (limit) return {std::max<std::int64_t>(limit - device_memory_.bytes(), 0), limit};
    const std::int64_t page = ::sysconf(_SC_PAGESIZE);
    return {::sysconf(_SC_AVPHYS_PAGES) * page, ::sysconf(_SC_PHYS_PAGES) * page};
  }

  void* allocate(std::int64_t bytes) override {
    return device_memory_.allocate(bytes, "device", memory_bytes);
  }
  // Freeing waits for all work first, as HIP and CUDA do.
  void free(void* p) override {
    finish_all();
    device_memory_.release(p);
  }
  void* allocate_pinned(std::int64_t bytes) override {
    return pinned_memory_.allocate(bytes, "pinned host", 0);
  }
  void free_pinned(void* p) override {
    finish_all();
    pinned_memory_.release(p);
  }
  std::int64_t guard_bytes() const override { return kPage; }
  void guard(void* page) override { protect(page, PROT_NONE); }
  void unguard(void* page) override { protect(page, PROT_READ | PROT_WRITE); }

  void copy_to_device(void* to, const void* from, std::int64_t bytes, Stream s) override {
    check_device(to, bytes);
    check_pinned(from, bytes);
    add(s, {[=] { std::memcpy(to, from, static_cast<std::size_t>(bytes)); }, from, bytes});
  }
  void copy_to_host(void* to, const void* from, std::int64_t bytes, Stream s) override {
    check_pinned(to, bytes);
    check_device(from, bytes);
    // What the host reads too early is no number.
    if (s->delays && !s->capture && !is_source(to, bytes))
      std::memset(to, 0xff, static_cast<std::size_t>(bytes));
    add(s, {[=] { std::memcpy(to, from, static_cast<std::size_t>(bytes)); }});
  }
  void copy_on_device(void* to, const void* from, std::int64_t bytes, Stream s) override {
    check_device(to, bytes);
    check_device(from, bytes);
    add(s, {[=] { std::memmove(to, from, static_cast<std::size_t>(bytes)); }});
  }
  void fill(void* to, std::uint8_t value, std::int64_t bytes, Stream s) override {
    check_device(to, bytes);
    add(s, {[=] { std::memset(to, value, static_cast<std::size_t>(bytes)); }});
  }
  void launch(Function f, const LaunchShape& shape, const void* args, std::size_t bytes,
              Stream s) override {
    const auto* begin = static_cast<const std::byte*>(args);
    add(s, {[f, shape, copy = std::vector<std::byte>(begin, begin + bytes)] {
          std::string error;
          const auto& [grid, block, shared] = shape;
          if (!host::launch(f->kernel.c_str(), copy.data(), copy.size(), {grid.x, grid.y, grid.z},
                            {block.x, block.y, block.z}, shared, error))
            throw Error(ErrorCode::kDevice, error);
        }});
  }

  Stream create_stream() override {
    return streams_.emplace_back(new StreamHandle{(device_ & 2) != 0, {}}).get();
  }
  void destroy(Stream s) override {
    run_until(s, s->num_queued);
    for (const auto& event : events_)
      if (event->stream == s) event->stream = nullptr;
    erase(streams_, s);
  }
  // Asking lets a delaying device do one piece of work, so that who asks in a loop gets on.
  bool done(Stream s) override {
    fail_if_lost();
    if (!s->queue.empty()) run_until(s, s->num_run + 1);
    return s->queue.empty();
  }
  void synchronize(Stream s) override {
    fail_if_lost();
    run_until(s, s->num_queued);
  }

  Event create_event(bool) override { return events_.emplace_back(new EventHandle).get(); }
  void destroy(Event e) override { erase(events_, e); }
  void record(Event e, Stream s) override {
    add(s, {[e] { e->time = std::chrono::steady_clock::now(); }});
    e->stream = s;
    e->position = s->num_queued;
  }
  void wait(Stream s, Event e) override {
    if (e->stream == nullptr) return;
    add(s, {[this, on = e->stream, position = e->position] { run_until(on, position); }});
  }
  bool done(Event e) override {
    fail_if_lost();
    if (e->stream && e->stream->num_run < e->position) run_until(e->stream, e->stream->num_run + 1);
    return !e->stream || e->stream->num_run >= e->position;
  }
  void synchronize(Event e) override {
    fail_if_lost();
    if (e->stream) run_until(e->stream, e->position);
  }
  float elapsed_ms(Event from, Event to) override {
    return std::chrono::duration<float, std::milli>(to->time - from->time).count();
  }

  Module load_module(const void*) override { return nullptr; }
  void unload(Module) override {}
  Function function(Module, const std::string& kernel) override {
    static const std::vector<std::string> kernels = host::kernel_names();
    if (!std::binary_search(kernels.begin(), kernels.end(), kernel))
      throw Error(ErrorCode::kUnsupported, "the emulation has no kernel " + kernel);
    return functions_.emplace_back(new FunctionHandle{kernel}).get();
  }

  void begin_capture(Stream s) override {
    auto graph = std::make_unique<GraphHandle>();
    s->capture = &graph->work;
    graphs_.push_back(std::move(graph));
  }
  Graph end_capture(Stream s) override {
    s->capture = nullptr;
    return graphs_.back().get();
  }
  void launch(Graph g, Stream s) override {
    const std::size_t skipped = graphs_are_stale && !g->work.empty() ? 1 : 0;
    for (std::size_t i = 0; i + skipped < g->work.size(); ++i) add(s, g->work[i]);
  }
  void destroy(Graph g) override { erase(graphs_, g); }

 private:
  template <class T>
  static void erase(std::vector<std::unique_ptr<T>>& all, T* one) {
    std::erase_if(all, [one](const auto& p) { return p.get() == one; });
  }

  void add(Stream s, Work work) {
    fail_if_lost();
    if (s->capture) {
      s->capture->push_back(std::move(work));
      return;
    }
    if (s->delays && work.source) work.checksum = checksum_of(work.source, work.bytes);
    s->queue.push_back(std::move(work));
    ++s->num_queued;
    if (!s->delays) run_until(s, s->num_queued);
  }

  void run_until(Stream s, std::uint64_t position) {
    while (s->num_run < position && !s->queue.empty()) {
      const Work work = std::move(s->queue.front());
      s->queue.pop_front();
      ++s->num_run;
      if (s->delays && work.source && checksum_of(work.source, work.bytes) != work.checksum)
        throw Error(ErrorCode::kInternal,
                    "the host has written to " + std::to_string(work.bytes) +
                        " bytes of pinned memory that a queued copy still had to read");
      work.run();
    }
  }

  void finish_all() {
    for (const auto& stream : streams_) run_until(stream.get(), stream->num_queued);
  }

  bool is_source(const void* p, std::int64_t bytes) const {
    const auto* begin = static_cast<const std::byte*>(p);
    for (const auto& stream : streams_)
      for (const Work& work : stream->queue) {
        const auto* from = static_cast<const std::byte*>(work.source);
        if (from && begin < from + work.bytes && from < begin + bytes) return true;
      }
    return false;
  }

  void check_device(const void* p, std::int64_t bytes) const {
    if (!device_memory_.contains(p, bytes))
      throw Error(ErrorCode::kDevice, "a copy of " + std::to_string(bytes) +
                                          " bytes leaves its allocation of device memory");
  }
  void check_pinned(const void* p, std::int64_t bytes) const {
    if (!pinned_memory_.contains(p, bytes))
      throw Error(ErrorCode::kDevice, "a copy of " + std::to_string(bytes) +
                                          " bytes leaves its allocation of pinned host memory");
  }

  static void protect(void* page, int access) {
    if (::mprotect(page, kPage, access) != 0)
      throw Error(ErrorCode::kInternal, "a guard page is not at the start of a page");
  }

  int device_ = 0;
  GuardedMemory device_memory_, pinned_memory_;
  std::vector<std::unique_ptr<StreamHandle>> streams_;
  std::vector<std::unique_ptr<EventHandle>> events_;
  std::vector<std::unique_ptr<FunctionHandle>> functions_;
  std::vector<std::unique_ptr<GraphHandle>> graphs_;
};

}  // namespace

void emulate_fault(EmulatedFault fault, std::int64_t calls) {
  switch (fault) {
    case EmulatedFault::kMemory:
      allocations_until_fault = calls;
      break;
    case EmulatedFault::kMemoryBytes:
      memory_bytes = calls;
      break;
    case EmulatedFault::kDevice:
      lost = false;
      calls_until_loss = calls;
      break;
    case EmulatedFault::kGraph:
      graphs_are_stale = calls != 0;
      break;
  }
}

std::unique_ptr<Driver> open_host_driver() { return std::make_unique<HostDriver>(); }

}  // namespace rocmforge::gpu
