#include "gpu/shared_library.hpp"

#include <dlfcn.h>

#include "core/error.hpp"

namespace rocmforge::gpu {

SharedLibrary::SharedLibrary(const char* what, std::initializer_list<const char*> names) {
  std::string tried, reason;
  for (const char* name : names) {
    handle_ = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle_) {
      name_ = name;
      return;
    }
    const char* error = ::dlerror();
    reason = error ? error : "";
    tried += std::string(tried.empty() ? "" : ", ") + name;
  }
  throw Error(ErrorCode::kUnsupported,
              std::string("no ") + what + " library: tried " + tried + " (" + reason + ")");
}

void* SharedLibrary::symbol(const char* name) const {
  if (void* p = ::dlsym(handle_, name)) return p;
  throw Error(ErrorCode::kUnsupported, name_ + " lacks " + name);
}

}  // namespace rocmforge::gpu
