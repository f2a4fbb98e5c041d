// What this library asks of a GPU runtime: about forty calls behind one interface. The runtimes
// are opened at run time (hip, cuda) or are this process itself (host, the emulation), so nothing
// links against one and no package of one is needed to build, install or start.
//
// A device is made current for the calling thread before anything else is called for it. Calls
// throw Error(kOutOfMemory) for a failed allocation, Error(kUnsupported) for what the library or
// machine lacks and Error(kDevice) for everything else: the device is then not to be used again.
// All work goes through streams; there is no call that waits for a whole device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace rocmforge::gpu {

// Handles belong to the driver that made them.
using Stream = struct StreamHandle*;
using Event = struct EventHandle*;
using Module = struct ModuleHandle*;
using Function = struct FunctionHandle*;
using Graph = struct GraphHandle*;  // ready to be launched

enum class Attribute {
  kWaveSize,  // threads
  kNumMultiprocessors,
  kMaxThreadsPerBlock,
  kMaxBlockX,
  kMaxBlockY,
  kMaxBlockZ,
  kMaxGridX,  // blocks
  kMaxGridY,
  kMaxGridZ,
  kMaxSharedBytes,  // of a block
  kL2Bytes,
  kIntegrated,    // 1: its memory is the host's
  kRunTimeLimit,  // 1: kernels are limited in time, as where a display is driven
  kCapabilityMajor,
  kCapabilityMinor,
  kPciDomain,
  kPciBus,
  kPciDevice,
};

struct MemoryInfo {
  std::int64_t free_bytes, total_bytes;
};

struct Extent {
  std::uint32_t x = 1, y = 1, z = 1;
};

struct LaunchShape {
  Extent grid, block;  // blocks, threads
  std::uint32_t shared_bytes = 0;
};

class Driver {
 public:
  virtual ~Driver() = default;

  // --- devices
  virtual std::string_view name() const = 0;  // "hip", "cuda" or "host"
  virtual int device_count() = 0;
  virtual std::string device_name(int device) = 0;
  virtual std::int64_t attribute(int device, Attribute a) = 0;
  virtual void make_current(int device) = 0;  // for the calling thread
  virtual MemoryInfo memory() = 0;            // of the current device

  // --- memory
  virtual void* allocate(std::int64_t bytes) = 0;  // on the device; contents are anything
  virtual void free(void* p) = 0;
  virtual void* allocate_pinned(std::int64_t bytes) = 0;  // on the host
  virtual void free_pinned(void* p) = 0;
  // Bytes behind each piece of an arena that this driver can protect, and their protection.
  virtual std::int64_t guard_bytes() const { return 0; }
  virtual void guard(void* page) { static_cast<void>(page); }
  virtual void unguard(void* page) { static_cast<void>(page); }

  // --- work of a stream. Host memory of copies is pinned and stays as it is until they are done.
  virtual void copy_to_device(void* to, const void* from, std::int64_t bytes, Stream s) = 0;
  virtual void copy_to_host(void* to, const void* from, std::int64_t bytes, Stream s) = 0;
  virtual void copy_on_device(void* to, const void* from, std::int64_t bytes, Stream s) = 0;
  virtual void fill(void* to, std::uint8_t value, std::int64_t bytes, Stream s) = 0;
  // Copies the argument struct before it returns.
  virtual void launch(Function f, const LaunchShape& shape, const void* args, std::size_t bytes,
                      Stream s) = 0;

  // --- streams and events
  virtual Stream create_stream() = 0;  // does not synchronize with the default stream
  virtual void destroy(Stream s) = 0;
  virtual bool done(Stream s) = 0;
  virtual void synchronize(Stream s) = 0;
  virtual Event create_event(bool timed) = 0;
  virtual void destroy(Event e) = 0;
  virtual void record(Event e, Stream s) = 0;
  virtual void wait(Stream s, Event e) = 0;  // work queued later waits; the host does not
  virtual bool done(Event e) = 0;            // true for one that was never recorded
  virtual void synchronize(Event e) = 0;
  virtual float elapsed_ms(Event from, Event to) = 0;  // both timed and done

  // --- code
  // `image` is a code object; the emulation has its kernels built in and ignores it.
  virtual Module load_module(const void* image) = 0;
  virtual void unload(Module m) = 0;
  // Throws Error(kUnsupported) if the module has no such kernel.
  virtual Function function(Module m, const std::string& kernel) = 0;

  // --- graphs
  virtual void begin_capture(Stream s) = 0;
  virtual Graph end_capture(Stream s) = 0;
  virtual void launch(Graph g, Stream s) = 0;
  virtual void destroy(Graph g) = 0;
};

// By name. Throws Error(kUnsupported) naming the libraries that were tried, or the symbol that the
// one found lacks; Error(kInvalidArgument) for another name.
std::unique_ptr<Driver> open_driver(const std::string& name);

std::unique_ptr<Driver> open_hip_driver();
std::unique_ptr<Driver> open_cuda_driver();
std::unique_ptr<Driver> open_host_driver();

}  // namespace rocmforge::gpu
