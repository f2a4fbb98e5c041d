#include "host/host_launch.hpp"

#include <cstring>
#include <exception>
#include <memory>

#include "host/block_runner.hpp"
#include "host/registry.hpp"
#include "include/launch.hpp"

namespace rocmforge::gpu::host {
namespace {

constexpr std::uint32_t kMaxGridYz = 65535;  // of CUDA; HIP allows more

std::string dims(Dim3 d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

BlockRunner& runner_of_thread() {
  static thread_local std::unique_ptr<BlockRunner> runner;
  if (!runner) runner = std::make_unique<BlockRunner>();
  return *runner;
}

std::string refusal(const Kernel* kernel, std::size_t args_bytes, Dim3 grid, Dim3 block,
                    std::uint32_t shared_bytes) {
  if (!kernel) return "there is no such kernel in the host build";
  if (args_bytes != kernel->args_bytes)
    return "its arguments are " + std::to_string(kernel->args_bytes) + " bytes, not " +
           std::to_string(args_bytes);
  if (static_cast<int>(block.x) != kernel->threads || block.y != 1 || block.z != 1)
    return "its blocks are " + dims({static_cast<std::uint32_t>(kernel->threads), 1, 1}) +
           ", not " + dims(block);
  if (shared_bytes != 0)
    return "it has no dynamic shared memory, but " + std::to_string(shared_bytes) +
           " bytes were asked for";
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > kMaxGridYz ||
      grid.z > kMaxGridYz)
    return "its grid " + dims(grid) + " is empty or exceeds (2147483647, 65535, 65535)";
  return {};
}

}  // namespace

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (const Kernel& k : kernels()) names.emplace_back(k.name);
  return names;
}

bool launch(const char* name, const void* args, std::size_t args_bytes, Dim3 grid, Dim3 block,
            std::uint32_t shared_bytes, std::string& error) {
  const Kernel* kernel = find_kernel(name);
  const std::string refused = refusal(kernel, args_bytes, grid, block, shared_bytes);
  if (!refused.empty()) {
    error = "kernel " + std::string(name) + ": " + refused;
    return false;
  }
  BlockRunner& runner = runner_of_thread();
  runner.start_launch(kernel->run, args, kernel->threads, kernel->wave);
  for (std::uint32_t z = 0; z < grid.z; ++z) {
    for (std::uint32_t y = 0; y < grid.y; ++y) {
      for (std::uint32_t x = 0; x < grid.x; ++x) {
        if (runner.run(static_cast<int>(x), static_cast<int>(y), static_cast<int>(z))) continue;
        error =
            "kernel " + std::string(name) + ", block " + dims({x, y, z}) + ": " + runner.error();
        return false;
      }
    }
  }
  return true;
}

}  // namespace rocmforge::gpu::host

extern "C" int rf_host_launch(const char* kernel, const void* args, std::size_t args_bytes,
                              const std::uint32_t grid[3], const std::uint32_t block[3],
                              std::uint32_t shared_bytes, char* error, std::size_t error_bytes) {
  using rocmforge::gpu::host::Dim3;
  std::string message;
  try {
    if (rocmforge::gpu::host::launch(kernel, args, args_bytes, Dim3{grid[0], grid[1], grid[2]},
                                     Dim3{block[0], block[1], block[2]}, shared_bytes, message))
      return 0;
  } catch (const std::exception& e) {
    message = e.what();
  }
  std::strncpy(error, message.c_str(), error_bytes - 1);
  error[error_bytes - 1] = '\0';
  return 1;
}
