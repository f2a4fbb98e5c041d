#include "cpu/read_bandwidth.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <string>

#include "core/buffer.hpp"
#include "core/error.hpp"
#include "core/thread_pool.hpp"

namespace rocmforge::cpu {
namespace {

// What a thread takes at a time: long enough that starting a stream costs nothing, short enough
// that a preempted thread does not hold up the pass.
constexpr std::int64_t kPiece = std::int64_t{1} << 20;
constexpr int kPasses = 5;

// The exclusive or of a piece, read as kStreams parallel streams, a cache line from each in turn.
template <int kStreams>
std::uint64_t read_piece(const std::uint64_t* p) {
  constexpr std::int64_t kWords = kPiece / 8, kLine = 8, kStream = kWords / kStreams;
  std::uint64_t sums[kLine] = {};
  for (std::int64_t i = 0; i < kStream; i += kLine)
    for (int s = 0; s < kStreams; ++s)
      for (std::int64_t j = 0; j < kLine; ++j) sums[j] ^= p[s * kStream + i + j];
  std::uint64_t total = 0;
  for (const std::uint64_t sum : sums) total ^= sum;
  return total;
}

}  // namespace

double read_bandwidth(int num_threads, std::int64_t bytes) {
  if (num_threads < 1 || bytes < kPiece)
    throw Error(ErrorCode::kInvalidArgument,
                "read_bandwidth needs at least 1 thread and 1 MiB, not " +
                    std::to_string(num_threads) + " and " + std::to_string(bytes) + " bytes");
  const std::int64_t pieces = bytes / kPiece;
  const Buffer buffer(static_cast<std::size_t>(pieces * kPiece));
  const auto* words = static_cast<const std::uint64_t*>(buffer.data());
  auto piece = [&](std::int64_t i) { return words + i * (kPiece / 8); };
  ThreadPool pool(num_threads);
  pool.parallel_for(pieces, 1, [&](std::int64_t begin, std::int64_t end, int) {
    std::memset(static_cast<char*>(buffer.data()) + begin * kPiece, 1,
                static_cast<std::size_t>((end - begin) * kPiece));
  });

  std::atomic<std::uint64_t> sink{0};  // keeps the reads from being optimized away
  double best = 0;
  for (int pass = 0; pass < 2 * kPasses; ++pass) {
    const bool four = pass % 2 == 1;
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(pieces, 1, [&](std::int64_t begin, std::int64_t end, int) {
      std::uint64_t sum = 0;
      for (std::int64_t i = begin; i < end; ++i)
        sum ^= four ? read_piece<4>(piece(i)) : read_piece<1>(piece(i));
      sink.fetch_xor(sum, std::memory_order_relaxed);
    });
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(pieces * kPiece) / elapsed.count());
  }
  return best;
}

}  // namespace rocmforge::cpu
