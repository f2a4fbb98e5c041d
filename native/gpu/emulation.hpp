// Faults that tests make the emulated GPU have.
#pragma once

#include <cstdint>

namespace rocmforge::gpu {

enum class EmulatedFault {
  kMemory,       // the calls-th allocation fails
  kMemoryBytes,  // the number is that of the bytes of memory a device has
  kDevice,       // the device is lost at the calls-th call that queues or awaits work, and stays so
  kGraph,        // graphs skip their last piece of work, whatever the number
};

// From here on, in any driver of the emulation; 0 ends it.
void emulate_fault(EmulatedFault fault, std::int64_t calls);

}  // namespace rocmforge::gpu
