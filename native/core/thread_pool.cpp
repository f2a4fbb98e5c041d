#include "core/thread_pool.hpp"

#include <algorithm>
#include <string>
#include <system_error>

#include "core/error.hpp"

namespace rocmforge {
namespace {

// About 50 microseconds on current cores: longer than the serial stretches inside a step,
// shorter than anything a user would notice as load.
constexpr int kSpins = 4000;
// With fewer processors than threads a spinning waiter may hold the core that the thread it
// waits for needs, so it offers the core now and then.
constexpr int kSpinsBetweenYields = 256;

inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  check(num_threads >= 1, ErrorCode::kInvalidArgument, "a thread pool needs at least one thread");
  workers_.reserve(static_cast<std::size_t>(num_threads) - 1);
  try {
    for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this, i] { worker_main(i); });
  } catch (const std::system_error& e) {
    stop_.store(true);
    epoch_.fetch_add(1);
    epoch_.notify_all();
    for (std::thread& t : workers_) t.join();
    throw Error(ErrorCode::kOutOfMemory, "cannot start " + std::to_string(num_threads) +
                                             " threads: " + std::string(e.what()));
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& t : workers_) t.join();
}

ThreadPool::Loop::Piece ThreadPool::Loop::piece(std::int64_t index) const noexcept {
  std::int64_t begin = 0;
  if (round > 0) {
    while (true) {
      const std::int64_t size = (n - begin) / (2 * round) / grain * grain;
      if (size <= grain) break;
      if (index < round) return {begin + index * size, size};
      begin += round * size;
      index -= round;
    }
  }
  return {begin + index * grain, grain};
}

std::int64_t ThreadPool::Loop::num_pieces() const noexcept {
  std::int64_t pieces = 0, begin = 0;
  while (round > 0) {
    const Piece first = piece(pieces);
    begin = first.begin;
    if (first.size <= grain) break;
    pieces += round;
  }
  return pieces + (n - begin + grain - 1) / grain;
}

void ThreadPool::run(const Loop& loop) {
  const auto chunks = static_cast<std::uint32_t>(loop.num_pieces());
  loop_ = loop;
  done_.store(0, std::memory_order_relaxed);
  const std::uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  ticket_.store(std::uint64_t{epoch} << 32 | std::uint64_t{chunks} << 16,
                std::memory_order_release);
  epoch_.store(epoch, std::memory_order_release);
  epoch_.notify_all();

  work(epoch, 0);
  for (int spins = 1; done_.load(std::memory_order_acquire) != chunks; ++spins) {
    relax();
    if (spins % kSpinsBetweenYields == 0) std::this_thread::yield();
  }
}

void ThreadPool::work(std::uint32_t epoch, int thread) noexcept {
  std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
  for (;;) {
    const std::uint64_t next = ticket & 0xffff;
    if (ticket >> 32 != epoch || next >= (ticket >> 16 & 0xffff)) return;
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acquire,
                                       std::memory_order_acquire))
      continue;
    // The chunk is ours and not done, so loop_ cannot change until done_ says so.
    const Loop::Piece piece = loop_.piece(static_cast<std::int64_t>(next));
    loop_.call(loop_.ctx, piece.begin, std::min(piece.begin + piece.size, loop_.n), thread);
    done_.fetch_add(1, std::memory_order_release);
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::worker_main(int thread) noexcept {
  std::uint32_t seen = 0;
  while (!stop_.load(std::memory_order_acquire)) {
    std::uint32_t now = epoch_.load(std::memory_order_acquire);
    for (int spins = 0; now == seen && spins < kSpins; ++spins) {
      relax();
      now = epoch_.load(std::memory_order_acquire);
    }
    if (now == seen) {
      epoch_.wait(seen, std::memory_order_acquire);
      continue;
    }
    seen = now;
    work(now, thread);
  }
}

}  // namespace rocmforge
