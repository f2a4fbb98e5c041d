// Native errors become the classes of rocmforge.errors; std::bad_alloc becomes OutOfMemoryError.
#include <exception>
#include <new>

#include "bindings/bindings.hpp"
#include "core/error.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

const char* class_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInternal:
      return "RocmForgeError";
    case ErrorCode::kInvalidArgument:
      return "InvalidArgumentError";
    case ErrorCode::kModelFile:
      return "ModelFileError";
    case ErrorCode::kUnsupported:
      return "UnsupportedError";
    case ErrorCode::kOutOfMemory:
      return "OutOfMemoryError";
    case ErrorCode::kDevice:
      return "DeviceError";
    case ErrorCode::kUnavailable:
      return "UnavailableError";
  }
  return "RocmForgeError";
}

void raise(const char* cls, const char* what) {
  py::set_error(py::module_::import("rocmforge.errors").attr(cls), what);
}

}  // namespace

void bind_errors() {
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error& e) {
      raise(class_of(e.code()), e.what());
    } catch (const std::bad_alloc&) {
      raise("OutOfMemoryError", "host memory allocation failed");
    }
  });
}

}  // namespace rocmforge::bindings
