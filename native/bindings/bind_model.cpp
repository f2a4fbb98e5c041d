#include "bindings/bindings.hpp"

namespace rocmforge::bindings {

void bind_model(pybind11::module_&) {}

}  // namespace rocmforge::bindings
