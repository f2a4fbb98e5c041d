#include "host/fiber.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define RF_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RF_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(RF_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#endif

namespace rocmforge::gpu::host {
namespace {

constexpr std::size_t kGuard = 65536;  // a page of any size in use
constexpr std::size_t kStack = 262144;

}  // namespace

// What rf_switch_stack pushes, lowest address first, and where it returns to: System V ABI and
// AAPCS64.
#if defined(__x86_64__)
asm(R"(
.pushsection .text
.globl rf_switch_stack
.hidden rf_switch_stack
.type rf_switch_stack, @function
rf_switch_stack:
  .cfi_startproc
  endbr64
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .cfi_endproc
.size rf_switch_stack, .-rf_switch_stack
.popsection
)");
constexpr std::size_t kSaved = 7;  // words, with the return address
constexpr std::size_t kReturnWord = 6;
constexpr std::size_t kAboveReturn = 1;  // at a function's first instruction rsp % 16 == 8
#elif defined(__aarch64__)
asm(R"(
.pushsection .text
.globl rf_switch_stack
.hidden rf_switch_stack
.type rf_switch_stack, @function
rf_switch_stack:
  .cfi_startproc
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
  .cfi_endproc
.size rf_switch_stack, .-rf_switch_stack
.popsection
)");
constexpr std::size_t kSaved = 20;
constexpr std::size_t kReturnWord = 11;
constexpr std::size_t kAboveReturn = 0;
#else
#error "the host executor knows x86-64 and aarch64"
#endif

Stack::Stack() {
  void* p = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(p);
  if (mprotect(memory_, kGuard, PROT_NONE) != 0) {
    munmap(memory_, kGuard + kStack);
    throw std::bad_alloc();
  }
}

Stack::~Stack() { munmap(memory_, kGuard + kStack); }

void* Stack::prepare(void (*entry)()) const {
#if defined(RF_ADDRESS_SANITIZER)
  __asan_unpoison_memory_region(memory_ + kGuard, kStack);  // of frames that were given up
#endif
  auto* top = reinterpret_cast<std::uint64_t*>(memory_ + kGuard + kStack) - kAboveReturn;
  std::uint64_t* frame = top - kSaved;
  std::memset(frame, 0, (kSaved + kAboveReturn) * sizeof *frame);
  frame[kReturnWord] = reinterpret_cast<std::uintptr_t>(entry);
  return frame;
}

}  // namespace rocmforge::gpu::host
