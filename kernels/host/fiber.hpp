// Switching between stacks of one OS thread: the caller's saved registers and the stack pointer,
// nothing else (no signal mask, so no system call). The floating-point environment is shared.
#pragma once

#include <cstddef>

namespace rocmforge::gpu::host {

// Saves the running context's stack pointer to *from and continues the one saved in `to`.
extern "C" void rf_switch_stack(void** from, void* to);

// A stack of its own with an unmapped page below it.
class Stack {
 public:
  Stack();
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  // A context that calls entry(), which must not return, when it is first switched to.
  void* prepare(void (*entry)()) const;

 private:
  std::byte* memory_;
};

}  // namespace rocmforge::gpu::host
