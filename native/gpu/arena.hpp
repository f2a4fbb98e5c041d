// Device memory in few allocations: an arena a purpose, pieces of whole pages within. All arenas of
// a device share a budget.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gpu/device.hpp"

namespace rocmforge::gpu {

struct MemoryBudget {
  std::int64_t limit = 0, used = 0;  // bytes
};

class Arena {
 public:
  // Takes memory from the device in chunks of at least `chunk_bytes`.
  Arena(Device& device, MemoryBudget& budget, std::string purpose, std::int64_t chunk_bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // At least 16-byte aligned; on a real device a whole number of pages, readable to its end.
  // Throws Error(kOutOfMemory) with the sizes and leaves everything as it was.
  void* allocate(std::int64_t bytes);
  void free(void* p);

  // At least what allocate(bytes) takes of a chunk of a real device.
  static std::int64_t room_for(std::int64_t bytes);

  std::int64_t bytes_reserved() const { return bytes_reserved_; }  // from the device
  std::int64_t bytes_used() const { return bytes_used_; }
  std::int64_t num_chunks() const { return static_cast<std::int64_t>(chunks_.size()); }

 private:
  struct Piece {
    std::size_t chunk;
    std::int64_t begin, bytes;  // of the chunk, the guard included
  };
  struct Chunk {
    std::byte* base;                            // what the driver gave
    std::byte* page;                            // the first whole page of it
    std::map<std::int64_t, std::int64_t> gaps;  // begin to bytes
  };
  bool take(std::size_t chunk, std::int64_t bytes, Piece& piece);
  void add_chunk(std::int64_t bytes);

  Device& device_;
  MemoryBudget& budget_;
  std::string purpose_;
  std::int64_t chunk_bytes_;
  std::int64_t bytes_reserved_ = 0, bytes_used_ = 0;
  std::vector<Chunk> chunks_;
  std::map<void*, Piece> pieces_;
};

}  // namespace rocmforge::gpu
