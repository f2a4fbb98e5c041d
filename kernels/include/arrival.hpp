// Work that the last of several blocks does for all of them. Nobody waits: not every device
// promises that blocks run at the same time.
#pragma once

#include "include/gpu.hpp"

namespace rocmforge::gpu {

// Whether this block is the last of `blocks` to call it with this counter, which is 0 before the
// first call and after the last. What all of them wrote before is then there for every thread.
RF_DEVICE bool arrives_last(std::uint32_t* counter, std::uint32_t blocks) {
  RF_SHARED(std::uint32_t, before, 1);
  publish();
  barrier();
  if (thread_index() == 0) {
    before[0] = count_arrival(counter);
    if (before[0] == blocks - 1) *counter = 0;
  }
  barrier();
  if (before[0] != blocks - 1) return false;
  receive();
  return true;
}

}  // namespace rocmforge::gpu
