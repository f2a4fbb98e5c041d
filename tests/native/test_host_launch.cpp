// The host executor against kernels that do what no device allows.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "host/host_launch.hpp"
#include "include/gpu.hpp"

namespace rocmforge::gpu {
namespace {

struct MisuseArgs {
  std::int32_t* out;  // [kThreads]
  std::int32_t what;
};
enum Misuse : std::int32_t {
  kNone,
  kBarrierInBranch,
  kBarrierAfterReturn,
  kWaveInBranch,
  kDifferentWaveOperations,
  kTooMuchShared,
  kReadBeforeWrite,
};

template <int kWave>
RF_DEVICE void misuse(const MisuseArgs& a) {
  const int thread = thread_index();
  std::int32_t value = 0;
  switch (a.what) {
    case kBarrierInBranch:
      if (thread < 100) barrier();
      barrier();
      break;
    case kBarrierAfterReturn:
      if (thread == 7) return;
      barrier();
      break;
    case kWaveInBranch:
      if (thread % 2 == 0) value = wave_sum<kWave>(1);
      break;
    case kDifferentWaveOperations:
      value = thread % 2 == 0 ? wave_sum<kWave>(1) : shuffle_xor<kWave, 1>(1);
      break;
    case kTooMuchShared: {
      RF_SHARED(float, large, 20000);
      large[thread] = 0.0f;
      break;
    }
    case kReadBeforeWrite: {
      RF_SHARED(float, memory, kThreads);
      value = memory[thread] != memory[thread];
      break;
    }
    default:
      value = wave_sum<kWave>(thread) + shuffle_xor<kWave, 8>(thread);
      barrier();
  }
  a.out[thread] = value;
}

}  // namespace

RF_KERNEL_WAVES(test_misuse, MisuseArgs, misuse)

namespace {

std::string run(Misuse what, int wave, std::vector<std::int32_t>& out) {
  out.assign(kThreads, -1);
  const MisuseArgs args{out.data(), what};
  std::string error;
  const std::string name = "rf_test_misuse_w" + std::to_string(wave);
  host::launch(name.c_str(), &args, sizeof args, {1}, {kThreads}, 0, error);
  return error;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("threads that do not meet are reported, and the next launch is sound") {
  std::vector<std::int32_t> out;
  for (const int wave : {32, 64}) {
    CAPTURE(wave);
    CHECK(contains(run(kBarrierInBranch, wave, out), "waits at a barrier"));
    CHECK(contains(run(kBarrierAfterReturn, wave, out), "has returned"));
    CHECK(contains(run(kWaveInBranch, wave, out), "waits at a wave operation"));
    CHECK(contains(run(kDifferentWaveOperations, wave, out), "met in different wave operations"));
    CHECK(contains(run(kTooMuchShared, wave, out), "bytes of shared memory"));
    REQUIRE(run(kNone, wave, out).empty());
    for (int i = 0; i < kThreads; ++i) {
      const int first = i / wave * wave;
      CHECK(out[static_cast<std::size_t>(i)] == wave * first + wave * (wave - 1) / 2 + (i ^ 8));
    }
  }
}

TEST_CASE("shared memory holds NaNs until it is written") {
  std::vector<std::int32_t> out;
  REQUIRE(run(kReadBeforeWrite, 32, out).empty());
  for (const std::int32_t is_nan : out) CHECK(is_nan == 1);
}

}  // namespace rocmforge::gpu
