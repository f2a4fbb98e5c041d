// Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011. Counter based, so a draw needs no state and is the same on every device.
#pragma once

#include <cstdint>

#include "core/hd.hpp"

namespace rocmforge {

struct PhiloxBlock {
  std::uint32_t words[4];
};

RF_HD PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xD2511F53ull * counter.words[0];
    const std::uint64_t b = 0xCD9E8D57ull * counter.words[2];
    counter = {{static_cast<std::uint32_t>(b >> 32) ^ counter.words[1] ^ key0,
                static_cast<std::uint32_t>(b),
                static_cast<std::uint32_t>(a >> 32) ^ counter.words[3] ^ key1,
                static_cast<std::uint32_t>(a)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// 64 random bits for the token at `position` of a request with `seed`. The counter's upper half
// is zero: it is left to further draws at one position.
RF_HD std::uint64_t philox_bits(std::uint64_t seed, std::uint64_t position) {
  const PhiloxBlock counter{
      {static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), 0, 0}};
  const PhiloxBlock r = philox4x32_10(counter, static_cast<std::uint32_t>(seed),
                                      static_cast<std::uint32_t>(seed >> 32));
  return static_cast<std::uint64_t>(r.words[1]) << 32 | r.words[0];
}

}  // namespace rocmforge
