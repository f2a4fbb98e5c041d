// One block of a launch at a time: its threads, their meetings, its shared memory.
//
// A fiber runs threads until one has to wait; then the scheduler (the caller's stack) continues a
// thread that no longer waits, or starts another fiber on the next thread. Threads that meet
// nobody so cost a function call each. A wave runs on until it has to wait for others, those of 32
// lanes first to last, those of 64 last to first: what a missing barrier would protect goes wrong
// in one of the orders, where a device would show it now and then. When nobody can run and somebody
// waits, the block is stuck: that is reported with who waits for what.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "host/fiber.hpp"
#include "include/host.hpp"

namespace rocmforge::gpu::host {

class BlockRunner {
 public:
  // Of static arrays, what NVIDIA's devices have; AMD's have 64 KiB.
  static constexpr std::size_t kSharedBytes = 49152;

  BlockRunner();

  // Blocks of `threads` threads, a multiple of `wave`.
  void start_launch(KernelFn kernel, const void* args, int threads, int wave);
  // False, with the reason in error(), if the block did not finish.
  bool run(int x, int y, int z);
  const std::string& error() const { return error_; }

  // --- called by the kernel's threads
  void* shared(int site, std::size_t bytes);
  void barrier();
  const std::uint32_t* exchange(std::uint32_t value, int wave, int operation, Combine combine);

  static BlockRunner*& current();  // of this OS thread while it is in run()

 private:
  struct Fiber {
    Stack stack;
    void* context = nullptr;
    int thread = 0;  // that it runs
  };
  enum class State : std::uint8_t { kNotStarted, kRunning, kAtBarrier, kAtWave, kDone };
  struct Thread {
    State state;
    Fiber* fiber;
    int operation;  // of the wave operation it is at
    int parity;     // of the number of wave operations it has finished
  };
  struct Wave {
    int arrived;
    std::array<std::array<std::uint32_t, 64>, 2> values;
  };
  enum class Failure : std::uint8_t { kStuck, kWaveSize, kOperations, kShared };
  struct Array {
    std::size_t offset, bytes;  // bytes 0: not used yet
  };

  static void fiber_entry();
  void run_threads();  // on a fiber: all that are left until one waits for ever
  void wait(Thread& t);
  int in_order(int i) const;
  void resume(Fiber& f);
  void fail(Failure what, int a, int b, int c = 0, int d = 0);  // does not return
  std::string describe_failure() const;
  std::string describe_stuck() const;

  KernelFn kernel_ = nullptr;
  const void* args_ = nullptr;
  int num_threads_ = 0, wave_ = 0;
  bool descending_ = false;  // the order in which threads run
  std::vector<Thread> threads_;
  std::vector<Wave> waves_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  std::deque<int> ready_;
  int next_thread_ = 0, finished_ = 0, at_barrier_ = 0;
  void* scheduler_ = nullptr;  // its context
  Fiber* running_ = nullptr;
  bool failed_ = false;
  // Text is made of them on the caller's stack: what a fiber that is given up owns is never freed.
  Failure failure_ = Failure::kStuck;
  std::array<int, 4> failure_details_{};
  std::string error_;
  std::vector<Array> arrays_;  // by site
  struct alignas(64) Shared {
    std::byte bytes[kSharedBytes];
  };
  std::unique_ptr<Shared> shared_;
  std::size_t shared_used_ = 0;
};

}  // namespace rocmforge::gpu::host
