#include "gpu/runtime_driver.hpp"

#include "core/error.hpp"

namespace rocmforge::gpu {
namespace {

constexpr int kSuccess = 0, kOutOfMemory = 2, kNoDevice = 100, kNotFound = 500, kNotReady = 600;
constexpr unsigned kNonBlockingStream = 1, kEventWithoutTiming = 2;
constexpr int kThreadLocalCapture = 1;

}  // namespace

void RuntimeDriver::initialize() {
  const int result = api_.init.function(0);
  if (result != kNoDevice) check_result(result, api_.init.name);
}

int RuntimeDriver::device_count() {
  int count = 0;
  const int result = api_.get_device_count.function(&count);
  if (result == kNoDevice) return 0;
  check_result(result, api_.get_device_count.name);
  return count;
}

std::string RuntimeDriver::device_name(int device) {
  char text[256] = {};
  call(api_.device_get_name, text, static_cast<int>(sizeof(text)) - 1, device);
  return text;
}

std::int64_t RuntimeDriver::attribute(int device, Attribute a) {
  int value = 0;
  call(api_.device_get_attribute, &value, number_of(a), device);
  return value;
}

MemoryInfo RuntimeDriver::memory() {
  std::size_t free_bytes = 0, total_bytes = 0;
  call(api_.mem_get_info, &free_bytes, &total_bytes);
  return {static_cast<std::int64_t>(free_bytes), static_cast<std::int64_t>(total_bytes)};
}

void* RuntimeDriver::allocate(std::int64_t bytes) {
  void* p = nullptr;
  check_allocation(api_.malloc.function(&p, static_cast<std::size_t>(bytes)), bytes, "device");
  return p;
}

void* RuntimeDriver::allocate_pinned(std::int64_t bytes) {
  void* p = nullptr;
  check_allocation(api_.host_malloc.function(&p, static_cast<std::size_t>(bytes), 0), bytes,
                   "pinned host");
  return p;
}

void RuntimeDriver::launch(Function f, const LaunchShape& shape, const void* args, std::size_t,
                           Stream s) {
  void* params[] = {const_cast<void*>(args)};
  const auto& [grid, block, shared] = shape;
  call(api_.launch_kernel, f, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, s, params,
       nullptr);
}

Stream RuntimeDriver::create_stream() {
  Stream s = nullptr;
  call(api_.stream_create, &s, kNonBlockingStream);
  return s;
}

Event RuntimeDriver::create_event(bool timed) {
  Event e = nullptr;
  call(api_.event_create, &e, timed ? 0u : kEventWithoutTiming);
  return e;
}

float RuntimeDriver::elapsed_ms(Event from, Event to) {
  float ms = 0.0f;
  call(api_.event_elapsed, &ms, from, to);
  return ms;
}

Module RuntimeDriver::load_module(const void* image) {
  Module m = nullptr;
  call(api_.module_load, &m, image);
  return m;
}

Function RuntimeDriver::function(Module m, const std::string& kernel) {
  Function f = nullptr;
  const int result = api_.module_function.function(&f, m, kernel.c_str());
  if (result == kNotFound)
    throw Error(ErrorCode::kUnsupported, "the code object has no kernel " + kernel);
  check_result(result, api_.module_function.name);
  return f;
}

void RuntimeDriver::begin_capture(Stream s) { call(api_.begin_capture, s, kThreadLocalCapture); }

Graph RuntimeDriver::end_capture(Stream s) {
  void* recorded = nullptr;
  call(api_.end_capture, s, &recorded);
  Graph graph = nullptr;
  const int result = api_.graph_instantiate.function(&graph, recorded, 0);
  call(api_.graph_destroy, recorded);
  check_result(result, api_.graph_instantiate.name);
  return graph;
}

void RuntimeDriver::check_result(int result, const std::string& name) const {
  if (result == kSuccess) return;
  const char* text = error_text(result);
  throw Error(result == kOutOfMemory ? ErrorCode::kOutOfMemory : ErrorCode::kDevice,
              name + " failed with " + std::to_string(result) + ": " + (text ? text : "unknown"));
}

void RuntimeDriver::check_allocation(int result, std::int64_t bytes, const char* kind) const {
  if (result == kOutOfMemory)
    throw Error(ErrorCode::kOutOfMemory,
                "cannot allocate " + std::to_string(bytes) + " bytes of " + kind + " memory");
  check_result(result, "an allocation");
}

template <class Handle>
bool RuntimeDriver::is_ready(const Call<int(Handle)>& query, Handle handle) const {
  const int result = query.function(handle);
  if (result == kNotReady) return false;
  check_result(result, query.name);
  return true;
}

template bool RuntimeDriver::is_ready(const Call<int(Stream)>&, Stream) const;
template bool RuntimeDriver::is_ready(const Call<int(Event)>&, Event) const;

}  // namespace rocmforge::gpu
