#include "core/file_range.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "core/error.hpp"

namespace rocmforge {

void expect_read(const FileRange& from, std::int64_t bytes) {
  ::posix_fadvise(from.fd, from.offset, bytes, POSIX_FADV_WILLNEED);  // failure is no error
}

void read_exactly(const FileRange& from, std::byte* to, std::int64_t bytes) {
  for (std::int64_t done = 0; done < bytes;) {
    const ::ssize_t n =
        ::pread(from.fd, to + done, static_cast<std::size_t>(bytes - done), from.offset + done);
    if (n > 0) {
      done += n;
    } else if (n == 0) {
      throw Error(ErrorCode::kModelFile, "the model's file ended at byte " +
                                             std::to_string(from.offset + done) +
                                             " while it was loaded");
    } else if (errno != EINTR) {
      throw Error(ErrorCode::kUnavailable, "the model's file cannot be read at byte " +
                                               std::to_string(from.offset + done) + ": " +
                                               std::strerror(errno));
    }
  }
}

}  // namespace rocmforge
