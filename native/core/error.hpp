// One exception type for the whole native layer. Python sees `code` mapped onto a class of
// rocmforge.errors (bindings/bind_error.cpp), so native code never needs to know about Python,
// and never prints or aborts.
#pragma once

#include <stdexcept>
#include <string>

namespace rocmforge {

enum class ErrorCode {
  kInternal,         // RocmForgeError: an invariant of this library does not hold
  kInvalidArgument,  // InvalidArgumentError
  kModelFile,        // ModelFileError
  kUnsupported,      // UnsupportedError
  kOutOfMemory,      // OutOfMemoryError
  kDevice,           // DeviceError
  kUnavailable,      // UnavailableError
};

// Visible, so that programs which link to the shared library can catch it.
class __attribute__((visibility("default"))) Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

// `what` is a literal so that a check that passes costs one branch.
inline void check(bool ok, ErrorCode code, const char* what) {
  if (!ok) throw Error(code, what);
}

}  // namespace rocmforge
