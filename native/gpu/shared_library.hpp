// A library opened at run time, and its symbols.
#pragma once

#include <initializer_list>
#include <string>

namespace rocmforge::gpu {

// The runtimes stay open until the process ends: they run threads of their own.
class SharedLibrary {
 public:
  // The first of `names` that opens. Throws Error(kUnsupported) with every name and the loader's
  // reason for the last.
  SharedLibrary(const char* what, std::initializer_list<const char*> names);

  const std::string& name() const { return name_; }
  // Throws Error(kUnsupported) naming it if the library lacks it.
  void* symbol(const char* name) const;

 private:
  void* handle_ = nullptr;
  std::string name_;
};

}  // namespace rocmforge::gpu
