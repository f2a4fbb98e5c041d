// The ceiling that decode speed is quoted against.
#pragma once

#include <cstdint>

namespace rocmforge::cpu {

// Bytes per second that `num_threads` threads read from a huge-page buffer of `bytes` bytes (at
// least 512 MiB to say something about DRAM): the best of five passes, with one sequential stream
// a thread or with four, whichever is faster. Throws Error(kInvalidArgument) for fewer than one
// thread or 1 MiB, Error(kOutOfMemory) if the buffer cannot be had.
double read_bandwidth(int num_threads, std::int64_t bytes);

}  // namespace rocmforge::cpu
