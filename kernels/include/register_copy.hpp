// AsyncCopy (gpu.hpp) where no instruction copies from global to shared memory. Included by gpu.hpp
// after what the target provides.
#pragma once

namespace rocmforge::gpu {

// 16 bytes from global to shared memory, through registers: loaded by start(), stored by finish();
// zeros instead unless `inside`.
struct AsyncCopy {
  Words4 words;

  RF_DEVICE void start(void*, const void* from, bool inside) {
    words = {};
    if (inside) words = load16(from);
  }
  RF_DEVICE void finish(void* to) const { store16(to, words); }
};
constexpr int kCopiesAhead = 1;
RF_DEVICE void end_copies() {}
template <int kGroups>
RF_DEVICE void finish_copies() {}

}  // namespace rocmforge::gpu
