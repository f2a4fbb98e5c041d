// What HIP's runtime and the CUDA driver API have in common, which is all but a few calls: a table
// of the library's functions, and the driver that calls them. Both number their results alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "gpu/driver.hpp"
#include "gpu/shared_library.hpp"

namespace rocmforge::gpu {

// A function of the library and how errors name it.
template <class F>
struct Call {
  F* function = nullptr;
  std::string name;
};

// Fills a call; versions of symbols ("cuMemFree_v2") are not part of the name.
template <class F>
void load(Call<F>& call, const SharedLibrary& library, const std::string& symbol) {
  call.function = reinterpret_cast<F*>(library.symbol(symbol.c_str()));
  call.name = symbol.ends_with("_v2") ? symbol.substr(0, symbol.size() - 3) : symbol;
}

// Device addresses are 64-bit integers in cuda.h; they are passed like pointers.
struct RuntimeApi {
  Call<int(unsigned)> init;
  Call<int(int*)> get_device_count;
  Call<int(char*, int, int)> device_get_name;
  Call<int(int*, int, int)> device_get_attribute;
  Call<int(std::size_t*, std::size_t*)> mem_get_info;
  Call<int(void**, std::size_t)> malloc;
  Call<int(void*)> free;
  Call<int(void**, std::size_t, unsigned)> host_malloc;
  Call<int(void*)> host_free;
  Call<int(Stream*, unsigned)> stream_create;
  Call<int(Stream)> stream_destroy;
  Call<int(Stream)> stream_query;
  Call<int(Stream)> stream_synchronize;
  Call<int(Stream, Event, unsigned)> stream_wait_event;
  Call<int(Event*, unsigned)> event_create;
  Call<int(Event)> event_destroy;
  Call<int(Event, Stream)> event_record;
  Call<int(Event)> event_query;
  Call<int(Event)> event_synchronize;
  Call<int(float*, Event, Event)> event_elapsed;
  Call<int(Module*, const void*)> module_load;
  Call<int(Module)> module_unload;
  Call<int(Function*, Module, const char*)> module_function;
  Call<int(Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream,
           void**, void**)>
      launch_kernel;
  Call<int(Stream, int)> begin_capture;
  Call<int(Stream, void**)> end_capture;
  Call<int(Graph*, void*, unsigned long long)> graph_instantiate;
  Call<int(Graph, Stream)> graph_launch;
  Call<int(Graph)> graph_exec_destroy;
  Call<int(void*)> graph_destroy;
};

class RuntimeDriver : public Driver {
 public:
  int device_count() final;
  std::string device_name(int device) final;
  std::int64_t attribute(int device, Attribute a) final;
  MemoryInfo memory() final;

  void* allocate(std::int64_t bytes) final;
  void free(void* p) final { call(api_.free, p); }
  void* allocate_pinned(std::int64_t bytes) final;
  void free_pinned(void* p) final { call(api_.host_free, p); }

  void launch(Function f, const LaunchShape& shape, const void* args, std::size_t bytes,
              Stream s) final;

  Stream create_stream() final;
  void destroy(Stream s) final { call(api_.stream_destroy, s); }
  bool done(Stream s) final { return is_ready(api_.stream_query, s); }
  void synchronize(Stream s) final { call(api_.stream_synchronize, s); }
  Event create_event(bool timed) final;
  void destroy(Event e) final { call(api_.event_destroy, e); }
  void record(Event e, Stream s) final { call(api_.event_record, e, s); }
  void wait(Stream s, Event e) final { call(api_.stream_wait_event, s, e, 0u); }
  bool done(Event e) final { return is_ready(api_.event_query, e); }
  void synchronize(Event e) final { call(api_.event_synchronize, e); }
  float elapsed_ms(Event from, Event to) final;

  Module load_module(const void* image) final;
  void unload(Module m) final { call(api_.module_unload, m); }
  Function function(Module m, const std::string& kernel) final;

  void begin_capture(Stream s) final;
  Graph end_capture(Stream s) final;
  void launch(Graph g, Stream s) final { call(api_.graph_launch, g, s); }
  void destroy(Graph g) final { call(api_.graph_exec_destroy, g); }

 protected:
  // To be filled, and then initialize() called, by the constructor.
  RuntimeApi api_;
  void initialize();

  virtual int number_of(Attribute a) const = 0;          // the library's
  virtual const char* error_text(int result) const = 0;  // may be null

  // Throws Error naming the call, its result and the library's text for it.
  template <class F, class... Args>
  void call(const Call<F>& c, Args... args) const {
    check_result(c.function(args...), c.name);
  }

 private:
  void check_result(int result, const std::string& name) const;
  void check_allocation(int result, std::int64_t bytes, const char* kind) const;
  template <class Handle>
  bool is_ready(const Call<int(Handle)>& query, Handle handle) const;
};

}  // namespace rocmforge::gpu
