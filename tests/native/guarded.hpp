// Memory between two pages that cannot be touched.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

namespace rocmforge::test {

// `count` values that end (or begin) exactly at such a page. Values of more than a byte keep their
// alignment as long as their size in bytes is a multiple of it.
template <class T>
class Guarded {
 public:
  Guarded(std::int64_t count, bool at_end) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    const std::size_t size = (bytes + page - 1) / page * page;
    bytes_ = size + 2 * page;
    void* p = ::mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<char*>(p);
    if (size && ::mprotect(memory_ + page, size, PROT_READ | PROT_WRITE) != 0)
      throw std::bad_alloc();
    data_ = reinterpret_cast<T*>(memory_ + page + (at_end ? size - bytes : 0));
  }
  ~Guarded() { ::munmap(memory_, bytes_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  T* get() const { return data_; }
  T& operator[](std::int64_t i) const { return data_[i]; }

 private:
  char* memory_;
  std::size_t bytes_;
  T* data_;
};

}  // namespace rocmforge::test
