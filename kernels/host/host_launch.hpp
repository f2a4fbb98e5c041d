// Runs a kernel of the host build: the blocks of the grid one after the other, every thread of a
// block a fiber of its own. Barriers that not all threads reach, and wave operations that not all
// lanes of a wave reach, are errors instead of hangs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace rocmforge::gpu::host {

struct Dim3 {
  std::uint32_t x = 1, y = 1, z = 1;
};

// Names of all kernels, sorted.
std::vector<std::string> kernel_names();

// False, with the reason, if the kernel is unknown, its argument struct has another size, the block
// is not what the kernel was written for, or its threads do not meet. Shared memory starts out as
// NaNs. Launches of different OS threads run side by side.
bool launch(const char* kernel, const void* args, std::size_t args_bytes, Dim3 grid, Dim3 block,
            std::uint32_t shared_bytes, std::string& error);

}  // namespace rocmforge::gpu::host

// The same for callers without C++: 0, or 1 with the reason in `error`.
extern "C" [[gnu::visibility("default")]] int rf_host_launch(
    const char* kernel, const void* args, std::size_t args_bytes, const std::uint32_t grid[3],
    const std::uint32_t block[3], std::uint32_t shared_bytes, char* error, std::size_t error_bytes);
