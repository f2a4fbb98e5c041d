// How large a decoder's steps, sequences and cache may become.
#pragma once

#include <cstdint>

#include "model/kv_type.hpp"

namespace rocmforge {

struct DecoderLimits {
  KvType kv_type = KvType::kF16;
  std::int64_t num_blocks = 0;
  std::int64_t block_size = 16;
  std::int64_t max_num_tokens = 0;  // of one step
  std::int64_t max_model_len = 0;   // positions of one sequence
};

}  // namespace rocmforge
