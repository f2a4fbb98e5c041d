// Slices of large buffers, given back together: what lies in many pieces, as weights do, would with
// a buffer each end in small pages, a fifth of a model of one billion weights.
#pragma once

#include <cstddef>
#include <vector>

#include "core/buffer.hpp"

namespace rocmforge {

class Slices {
 public:
  // 64-byte aligned zeros. Throws Error(kOutOfMemory) naming the size.
  void* allocate(std::size_t bytes);

 private:
  std::vector<Buffer> buffers_;  // the last one is being cut up
  std::size_t used_ = 0;         // of it
};

}  // namespace rocmforge
