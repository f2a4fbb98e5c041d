#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "core/slices.hpp"

namespace rocmforge {

TEST_CASE("slices are aligned zeros that do not overlap, whatever their sizes") {
  Slices slices;
  std::vector<std::pair<unsigned char*, std::size_t>> all;
  const std::size_t most = std::size_t{100} << 20;  // more than a buffer
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{64}, std::size_t{65}, most,
                                  std::size_t{40} << 20, std::size_t{30} << 20, std::size_t{7}}) {
    auto* p = static_cast<unsigned char*>(slices.allocate(bytes));
    CHECK(reinterpret_cast<std::uintptr_t>(p) % 64 == 0);
    CHECK(p[0] == 0);
    CHECK(p[bytes - 1] == 0);
    std::memset(p, static_cast<int>(all.size()) + 1, bytes < 128 ? bytes : 128);
    std::memset(p + bytes - 1, static_cast<int>(all.size()) + 1, 1);
    all.emplace_back(p, bytes);
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(all[i].first[0] == i + 1);
    CHECK(all[i].first[all[i].second - 1] == i + 1);
  }
  CHECK(slices.allocate(0) == nullptr);
}

}  // namespace rocmforge
