// A fixed set of threads that share loops.
//
// A loop is cut into chunks that participants take from one ticket, so a thread that the system
// has descheduled holds up nothing but the chunk it has already taken: the loop ends when every
// chunk is done, not when every worker has checked in. Idle workers spin for some tens of
// microseconds (the gap between two loops of a step), then sleep on a futex.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace rocmforge {

class ThreadPool {
 public:
  // `num_threads` counts the caller, which takes part in every loop.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  // A number that grows with every piece of a loop; what does not change for long hangs. For any
  // thread. Taking a piece of a shared loop moves the ticket already, so counting costs nothing.
  std::uint64_t progress() const noexcept {
    return ticket_.load(std::memory_order_relaxed) + alone_.load(std::memory_order_relaxed);
  }
  // Counts a part of a piece that would otherwise be long.
  void note_progress() noexcept { alone_.fetch_add(1, std::memory_order_relaxed); }

  // kShrinking: a round of a piece for each thread takes half of what is left, down to pieces of
  // `grain`: long streams first, and little to wait for at the end.
  enum class Pieces { kEqual, kShrinking };

  // Calls f(begin, end, thread_index) over [0, n) in pieces of `grain` (the last one shorter;
  // larger pieces where n / grain would exceed kMaxChunks). f must not throw. One loop at a time:
  // the pool belongs to the thread that runs the step.
  template <class F>
  void parallel_for(std::int64_t n, std::int64_t grain, F&& f, Pieces pieces = Pieces::kEqual) {
    if (n <= 0) return;
    if (grain < (n + kMaxChunks - 1) / kMaxChunks) grain = (n + kMaxChunks - 1) / kMaxChunks;
    if (workers_.empty() || n <= grain) {
      for (std::int64_t begin = 0; begin < n; begin += grain) {
        f(begin, begin + grain < n ? begin + grain : n, 0);
        note_progress();
      }
      return;
    }
    using Fn = std::remove_reference_t<F>;
    run(Loop{[](void* ctx, std::int64_t begin, std::int64_t end, int thread) {
               (*static_cast<Fn*>(ctx))(begin, end, thread);
             },
             const_cast<void*>(static_cast<const void*>(&f)), n, grain,
             pieces == Pieces::kEqual ? 0 : num_threads()});
  }

 private:
  static constexpr std::int64_t kMaxChunks = 0xffff;

  struct Loop {
    void (*call)(void* ctx, std::int64_t begin, std::int64_t end, int thread);
    void* ctx;
    std::int64_t n;
    std::int64_t grain;
    std::int64_t round;  // pieces of a size; 0: all of one

    struct Piece {
      std::int64_t begin, size;
    };
    Piece piece(std::int64_t index) const noexcept;
    std::int64_t num_pieces() const noexcept;
  };

  void run(const Loop& loop);
  void work(std::uint32_t epoch, int thread) noexcept;
  void worker_main(int thread) noexcept;

  Loop loop_{};
  // epoch << 32 | number of chunks << 16 | next chunk. Everything a taker must agree on is in one
  // word, so a late worker can never take a chunk of a loop it does not know.
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<std::uint64_t> alone_{0};  // pieces of loops that were not shared
  alignas(64) std::atomic<std::uint32_t> done_{0};   // chunks completed of the current loop
  alignas(64) std::atomic<std::uint32_t> epoch_{0};  // the word sleepers wait on
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace rocmforge
