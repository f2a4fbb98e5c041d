#include <doctest/doctest.h>

#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

#include "core/error.hpp"
#include "core/thread_pool.hpp"

using rocmforge::ThreadPool;

TEST_CASE("every index is visited exactly once, whatever the grain and the number of threads") {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (const std::int64_t n : {0, 1, 2, 63, 1000, 200000}) {
      for (const std::int64_t grain : {1, 3, 64, 1000000}) {
        std::vector<int> visits(static_cast<std::size_t>(n), 0);
        pool.parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end, int) {
          for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
        });
        for (const int v : visits) REQUIRE(v == 1);
      }
    }
  }
}

TEST_CASE("pieces that shrink visit every index once and end with small ones") {
  for (const int threads : {2, 3, 5}) {
    ThreadPool pool(threads);
    for (const std::int64_t n : {1, 4, 5, 31, 64, 1000, 70001}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
      std::atomic<std::int64_t> last_size{0}, largest{0};
      pool.parallel_for(
          n, 4,
          [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
            if (end == n) last_size = end - begin;
            std::int64_t most = largest;
            while (end - begin > most && !largest.compare_exchange_weak(most, end - begin)) {
            }
          },
          ThreadPool::Pieces::kShrinking);
      for (const auto& v : visits) CHECK(v == 1);
      CHECK(last_size <= 4);
      if (n >= 1000) CHECK(largest == n / (2 * threads) / 4 * 4);
    }
  }
}

TEST_CASE("what a loop wrote is visible after it, loop after loop") {
  ThreadPool pool(3);
  std::vector<std::int64_t> values(256);
  for (std::int64_t round = 1; round <= 20000; ++round) {
    pool.parallel_for(256, 8, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) values[static_cast<std::size_t>(i)] = round + i;
    });
    REQUIRE(std::accumulate(values.begin(), values.end(), std::int64_t{0}) ==
            256 * round + 255 * 128);
  }
}

TEST_CASE("threads have distinct indices below the number of threads") {
  ThreadPool pool(4);
  std::atomic<int> inside[4] = {};
  std::atomic<bool> clash{false};
  for (int round = 0; round < 200; ++round) {
    pool.parallel_for(64, 1, [&](std::int64_t, std::int64_t, int thread) {
      if (thread < 0 || thread >= 4 || inside[thread].fetch_add(1) != 0) clash = true;
      std::this_thread::yield();
      inside[thread].fetch_sub(1);
    });
  }
  CHECK_FALSE(clash);
}

TEST_CASE("a pool that has slept wakes up again") {
  ThreadPool pool(2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> sum{0};
    pool.parallel_for(
        10, 1, [&](std::int64_t begin, std::int64_t, int) { sum += static_cast<int>(begin); });
    CHECK(sum == 45);
  }
}

TEST_CASE("progress grows with every piece of a loop and with nothing else") {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::uint64_t last = pool.progress();
    for (const std::int64_t n : {1, 40}) {
      std::atomic<std::int64_t> pieces{0};
      std::atomic<bool> went_back{false};
      const std::uint64_t before = last;
      pool.parallel_for(n, 4, [&](std::int64_t, std::int64_t, int) {
        ++pieces;
        if (pool.progress() < before) went_back = true;
      });
      CHECK_FALSE(went_back);
      CHECK(pool.progress() >= before + static_cast<std::uint64_t>(pieces.load()));
      last = pool.progress();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    CHECK(pool.progress() == last);
    pool.note_progress();
    CHECK(pool.progress() == last + 1);
  }
}

TEST_CASE("progress of a loop is seen by a thread that takes no part") {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::atomic<bool> over{false};
    std::atomic<std::uint64_t> seen{pool.progress()};
    std::atomic<int> changes{0};
    std::thread watcher([&] {
      while (!over.load()) {
        const std::uint64_t now = pool.progress();
        if (now != seen.exchange(now)) ++changes;
      }
    });
    pool.parallel_for(8, 1, [&](std::int64_t, std::int64_t, int) {
      // A piece ends when the one before has been seen.
      const int known = changes.load();
      for (int i = 0; i < 2000 && changes.load() == known; ++i)
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    });
    over = true;
    watcher.join();
    CHECK(changes.load() >= 2);
  }
}

TEST_CASE("a pool without threads is refused") { CHECK_THROWS_AS(ThreadPool(0), rocmforge::Error); }
