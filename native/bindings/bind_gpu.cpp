// rocmforge._native.gpu: which devices a runtime has, and the pieces of the GPU path one by one
// (driver, arena), for rocmforge.devices() and for tests.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bindings.hpp"
#include "core/error.hpp"
#include "core/file_range.hpp"
#include "gpu/arena.hpp"
#include "gpu/copy_bandwidth.hpp"
#include "gpu/device.hpp"
#include "gpu/emulation.hpp"
#include "gpu/limits.hpp"
#include "gpu/matrix_library.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

using gpu::Attribute;
using gpu::Driver;

py::dict description_of(Driver& driver, int ordinal) {
  driver.make_current(ordinal);
  const gpu::DeviceProperties p = gpu::properties_of(driver, ordinal);
  const gpu::MemoryInfo memory = driver.memory();
  const auto get = [&](Attribute a) { return driver.attribute(ordinal, a); };
  py::dict d;
  d["name"] = p.name;
  d["wave_size"] = p.wave_size;
  d["num_multiprocessors"] = p.num_multiprocessors;
  d["integrated"] = p.integrated;
  d["run_time_limit"] = get(Attribute::kRunTimeLimit) != 0;
  d["capability"] =
      std::make_pair(get(Attribute::kCapabilityMajor), get(Attribute::kCapabilityMinor));
  d["pci"] = std::make_tuple(get(Attribute::kPciDomain), get(Attribute::kPciBus),
                             get(Attribute::kPciDevice));
  d["free_bytes"] = memory.free_bytes;
  d["total_bytes"] = memory.total_bytes;
  return d;
}

py::list devices_of(const std::string& driver_name) {
  const std::unique_ptr<Driver> driver = gpu::open_driver(driver_name);
  py::list found;
  for (int i = 0; i < driver->device_count(); ++i) found.append(description_of(*driver, i));
  return found;
}

// Memory of a device as Python holds it: an address that stays valid with its owner.
class DeviceMemory {
 public:
  DeviceMemory(std::shared_ptr<Driver> driver, std::int64_t bytes, bool pinned)
      : driver_(std::move(driver)), bytes_(bytes), pinned_(pinned) {
    check(bytes > 0, ErrorCode::kInvalidArgument, "an allocation has a positive size");
    data_ = pinned ? driver_->allocate_pinned(bytes) : driver_->allocate(bytes);
  }
  ~DeviceMemory() {
    try {
      pinned_ ? driver_->free_pinned(data_) : driver_->free(data_);
    } catch (const Error&) {  // of a lost device, which frees nothing
    }
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  std::byte* at(std::int64_t offset, std::int64_t bytes) const {
    check(offset >= 0 && bytes >= 0 && offset <= bytes_ - bytes, ErrorCode::kInvalidArgument,
          "a copy leaves its memory");
    return static_cast<std::byte*>(data_) + offset;
  }
  std::int64_t bytes() const { return bytes_; }

  py::array array(const py::object& self) const {
    check(pinned_, ErrorCode::kInvalidArgument, "memory of the device is no array of the host");
    return py::array_t<std::uint8_t>(bytes_, reinterpret_cast<const std::uint8_t*>(data_), self);
  }

 private:
  std::shared_ptr<Driver> driver_;
  void* data_ = nullptr;
  std::int64_t bytes_;
  bool pinned_;
};

template <class Handle>
struct Owned {
  std::shared_ptr<Driver> driver;
  Handle handle;
  Owned(std::shared_ptr<Driver> d, Handle h) : driver(std::move(d)), handle(h) {}
  ~Owned() {
    try {
      driver->destroy(handle);
    } catch (const Error&) {
    }
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
};
using OwnedStream = Owned<gpu::Stream>;
using OwnedEvent = Owned<gpu::Event>;
using OwnedGraph = Owned<gpu::Graph>;

class DriverObject {
 public:
  DriverObject(const std::string& name, int ordinal) : driver_(gpu::open_driver(name)) {
    driver_->make_current(ordinal);
  }
  std::shared_ptr<Driver> driver_;
  gpu::Module module_ = nullptr;
};

// One of the driver's copies, with offsets into both memories.
template <class Class>
void def_copy(Class& type, const char* name,
              void (Driver::*copy)(void*, const void*, std::int64_t, gpu::Stream)) {
  type.def(
      name,
      [copy](DriverObject& d, DeviceMemory& to, DeviceMemory& from, std::int64_t n, OwnedStream& s,
             std::int64_t to_offset, std::int64_t from_offset) {
        ((*d.driver_).*copy)(to.at(to_offset, n), from.at(from_offset, n), n, s.handle);
      },
      py::arg("to"), py::arg("source"), py::arg("nbytes"), py::arg("stream"),
      py::arg("to_offset") = 0, py::arg("source_offset") = 0);
}

void bind_driver(py::module_& m) {
  py::class_<DeviceMemory>(m, "Memory", "Bytes on the device, or pinned ones on the host.")
      .def_property_readonly("nbytes", &DeviceMemory::bytes)
      .def_property_readonly(
          "array", [](const py::object& self) { return self.cast<DeviceMemory&>().array(self); });
  py::class_<OwnedStream>(m, "Stream")
      .def("done", [](OwnedStream& s) { return s.driver->done(s.handle); })
      .def("synchronize", [](OwnedStream& s) { s.driver->synchronize(s.handle); })
      .def("begin_capture", [](OwnedStream& s) { s.driver->begin_capture(s.handle); })
      .def("end_capture", [](OwnedStream& s) {
        return std::make_unique<OwnedGraph>(s.driver, s.driver->end_capture(s.handle));
      });
  py::class_<OwnedEvent>(m, "Event")
      .def("done", [](OwnedEvent& e) { return e.driver->done(e.handle); })
      .def("synchronize", [](OwnedEvent& e) { e.driver->synchronize(e.handle); })
      .def("record", [](OwnedEvent& e, OwnedStream& s) { e.driver->record(e.handle, s.handle); })
      .def(
          "hold", [](OwnedEvent& e, OwnedStream& s) { e.driver->wait(s.handle, e.handle); },
          "Lets work queued on the stream from here on wait for the event.")
      .def("ms_since", [](OwnedEvent& e, OwnedEvent& from) {
        return e.driver->elapsed_ms(from.handle, e.handle);
      });
  py::class_<OwnedGraph>(m, "Graph").def("launch", [](OwnedGraph& g, OwnedStream& s) {
    g.driver->launch(g.handle, s.handle);
  });

  using D = DriverObject;
  py::class_<D> driver(m, "Driver", "One device through a runtime: 'hip', 'cuda' or 'host'.");
  def_copy(driver, "copy_to_device", &Driver::copy_to_device);
  def_copy(driver, "copy_to_host", &Driver::copy_to_host);
  def_copy(driver, "copy_on_device", &Driver::copy_on_device);
  driver.def(py::init<const std::string&, int>(), py::arg("name"), py::arg("ordinal") = 0)
      .def("allocate",
           [](D& d, std::int64_t n) { return std::make_unique<DeviceMemory>(d.driver_, n, false); })
      .def("allocate_pinned",
           [](D& d, std::int64_t n) { return std::make_unique<DeviceMemory>(d.driver_, n, true); })
      .def(
          "create_stream",
          [](D& d) { return std::make_unique<OwnedStream>(d.driver_, d.driver_->create_stream()); })
      .def("create_event",
           [](D& d) {
             return std::make_unique<OwnedEvent>(d.driver_, d.driver_->create_event(true));
           })
      .def("fill", [](D& d, DeviceMemory& to, std::uint8_t value, std::int64_t n,
                      OwnedStream& s) { d.driver_->fill(to.at(0, n), value, n, s.handle); })
      .def(
          "launch",
          [](D& d, const std::string& kernel, const py::bytes& args, std::uint32_t blocks,
             std::uint32_t threads, OwnedStream& s, std::uint32_t blocks_y,
             std::uint32_t blocks_z) {
            const std::string bytes = args;
            if (!d.module_) d.module_ = d.driver_->load_module(nullptr);
            d.driver_->launch(d.driver_->function(d.module_, kernel),
                              {{blocks, blocks_y, blocks_z}, {threads}, 0}, bytes.data(),
                              bytes.size(), s.handle);
          },
          "A kernel of what was loaded, or of the emulation.", py::arg("kernel"), py::arg("args"),
          py::arg("blocks"), py::arg("threads"), py::arg("stream"), py::arg("blocks_y") = 1,
          py::arg("blocks_z") = 1)
      .def(
          "load",
          [](D& d, const py::bytes& code_object) {
            const std::string bytes = code_object;
            d.module_ = d.driver_->load_module(bytes.data());
          },
          "The contents of a code object.")
      .def("address",
           [](D&, DeviceMemory& p) { return reinterpret_cast<std::uintptr_t>(p.at(0, 0)); });
}

// An arena with the device and the budget it needs.
struct ArenaObject {
  gpu::Device device;
  gpu::MemoryBudget budget;
  gpu::Arena arena;
  ArenaObject(const std::string& driver, int ordinal, std::int64_t limit, std::int64_t chunk)
      : device(driver, ordinal, ""),
        budget{limit, 0},
        arena(device, budget, "the pieces of a test", chunk) {}
};

void bind_arena(py::module_& m) {
  using A = ArenaObject;
  py::class_<A>(m, "Arena", "Pieces of a device's memory, by address.")
      .def(py::init<const std::string&, int, std::int64_t, std::int64_t>(), py::arg("driver"),
           py::arg("ordinal"), py::arg("limit"), py::arg("chunk_bytes"))
      .def("allocate",
           [](A& a, std::int64_t n) {
             return reinterpret_cast<std::uintptr_t>(a.arena.allocate(n));
           })
      .def("free", [](A& a, std::uintptr_t p) { a.arena.free(reinterpret_cast<void*>(p)); })
      .def("write",
           [](A& a, std::uintptr_t p, const py::bytes& data) {
             const std::string bytes = data;
             a.device.to_device(reinterpret_cast<void*>(p), bytes.data(),
                                static_cast<std::int64_t>(bytes.size()));
           })
      .def("write_from",
           [](A& a, std::uintptr_t p, std::int64_t n, const py::function& read) {
             a.device.to_device(reinterpret_cast<void*>(p), n,
                                [&](std::byte* to, std::int64_t at, std::int64_t count) {
                                  const auto bytes = read(at, count).cast<std::string>();
                                  check(bytes.size() == static_cast<std::size_t>(count),
                                        ErrorCode::kInvalidArgument, "read() gave another size");
                                  std::memcpy(to, bytes.data(), bytes.size());
                                });
           })
      .def("write_file",
           [](A& a, std::uintptr_t p, std::int64_t n, int fd, std::int64_t offset) {
             a.device.to_device(reinterpret_cast<void*>(p), n,
                                [&](std::byte* to, std::int64_t at, std::int64_t count) {
                                  read_exactly({fd, offset + at}, to, count);
                                });
           })
      .def("read",
           [](A& a, std::uintptr_t p, std::int64_t n) {
             std::string bytes(static_cast<std::size_t>(n), '\0');
             a.device.to_host(bytes.data(), reinterpret_cast<const void*>(p), n);
             return py::bytes(bytes);
           })
      .def_property_readonly("bytes_reserved", [](A& a) { return a.arena.bytes_reserved(); })
      .def_property_readonly("bytes_used", [](A& a) { return a.arena.bytes_used(); })
      .def_property_readonly("num_chunks", [](A& a) { return a.arena.num_chunks(); });
}

}  // namespace

void bind_gpu(py::module_& m) {
  m.def("devices", &devices_of, py::arg("driver"),
        "Properties of every device of a runtime, in its order.");
  m.def("copy_bandwidth", &gpu::copy_bandwidth, py::arg("driver"), py::arg("ordinal"),
        py::arg("bytes"), py::call_guard<py::gil_scoped_release>(),
        "Bytes a second, read and written, of copies within a device's memory.");
  m.def("matrix_library", &gpu::MatrixLibrary::find, py::arg("driver"),
        "The vendor's library for matrix products, where it is installed.");
  m.def("model_problem", &gpu::model_problem, py::arg("spec"),
        "Why GPU kernels cannot run layers of this model, or ''.");
  m.def("columns_problem", &gpu::columns_problem, py::arg("columns"),
        "Why GPU kernels cannot multiply with a matrix of so many columns, or ''.");
  m.def(
      "emulate_fault",
      [](const std::string& kind, std::int64_t calls) {
        const std::map<std::string, gpu::EmulatedFault> faults{
            {"memory", gpu::EmulatedFault::kMemory},
            {"memory_bytes", gpu::EmulatedFault::kMemoryBytes},
            {"device", gpu::EmulatedFault::kDevice},
            {"graph", gpu::EmulatedFault::kGraph}};
        const auto fault = faults.find(kind);
        check(fault != faults.end(), ErrorCode::kInvalidArgument,
              "a fault is one of 'memory', 'memory_bytes', 'device' or 'graph'");
        gpu::emulate_fault(fault->second, calls);
      },
      py::arg("kind"), py::arg("calls"),
      "Lets the calls-th allocation of the emulation fail ('memory'), its devices have so many\n"
      "bytes ('memory_bytes'), its device be lost at the calls-th call ('device'), or its graphs\n"
      "skip their last work ('graph'); 0 ends that.");
  bind_driver(m);
  bind_arena(m);
}

}  // namespace rocmforge::bindings
