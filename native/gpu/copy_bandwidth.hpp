#pragma once

#include <cstdint>
#include <string>

namespace rocmforge::gpu {

// Bytes a second, read and written, of the best of ten copies of `bytes` within a device's memory.
double copy_bandwidth(const std::string& driver, int ordinal, std::int64_t bytes);

}  // namespace rocmforge::gpu
