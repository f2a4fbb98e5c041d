// A place in an open file, and reading from it without a mapping: a file that somebody cuts short
// is an error then and no SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rocmforge {

struct FileRange {
  int fd = -1;  // -1: no file
  std::int64_t offset = 0;
};

// Tells the kernel that `bytes` from here on are read next.
void expect_read(const FileRange& from, std::int64_t bytes);
// Throws Error(kModelFile) with the offset if the file ends before, Error(kUnavailable) if it
// cannot be read.
void read_exactly(const FileRange& from, std::byte* to, std::int64_t bytes);

}  // namespace rocmforge
