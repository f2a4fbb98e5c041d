// Where things run. Matrices, caches, decoders and buffers name a device when they are made; each
// has a stream (a GPU) or threads (the CPU) of its own and is used by one thread at a time.
//
// Every call throws rocmforge::Error: kInvalidArgument for a value out of range, kUnsupported for
// what this build or machine lacks, kOutOfMemory, and kDevice for a GPU that is lost.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/export.hpp"
#include "core/error.hpp"

namespace rocmforge::api {

struct DeviceOptions {
  int num_threads = 0;             // of the CPU; 0: one a processor
  bool float_activations = false;  // products neither in 8 bits nor in bfloat16
  bool deterministic = false;      // equal bits whatever else a step holds
  std::string code_object;         // a GPU's kernels, <target>.hsaco; host:N has none
  std::int64_t memory_bytes = 0;   // of a GPU, for each object; 0: 90 % of what is free
};

struct DeviceInfo {
  std::string name;         // "hip:0"
  std::string description;  // as its runtime calls it
  int wave_size = 0;        // threads
  std::int64_t free_bytes = 0, total_bytes = 0;
};

// The devices of a runtime: "hip", "cuda", or "host", the emulation. kUnsupported without it.
RF_API std::vector<DeviceInfo> devices(const std::string& runtime);

class RF_API Device {
 public:
  // "cpu", "hip:N", "cuda:N" or "host:N" (emulated, for tests). Opens nothing yet.
  explicit Device(const std::string& name = "cpu", const DeviceOptions& options = {});

  const std::string& name() const { return name_; }
  const DeviceOptions& options() const { return options_; }
  bool is_gpu() const { return !runtime_.empty(); }
  const std::string& runtime() const { return runtime_; }  // "" for the CPU
  int ordinal() const { return ordinal_; }

 private:
  std::string name_, runtime_;
  int ordinal_ = 0;
  DeviceOptions options_;
};

}  // namespace rocmforge::api
