// Who attends to what in a step (AttendArgs).
#pragma once

#include "include/gpu.hpp"
#include "include/kv_types.hpp"

namespace rocmforge::gpu {

// The sequence of token t: s with query_start_loc[s] <= t < query_start_loc[s + 1]. t is a token of
// the step.
RF_DEVICE int sequence_of(const AttendArgs& a, int t) {
  int low = 0, high = *a.num_seqs;  // the first s whose begin is beyond t lies in (low, high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (a.query_start_loc[middle] <= t)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// Positions that token t of sequence s sees: [0, n); n <= 0 for none.
RF_DEVICE int positions_seen(const AttendArgs& a, int s, int t) {
  return a.seq_lens[s] - (a.query_start_loc[s + 1] - 1 - t);
}

// Keys or values of one KV head of a sequence, by position.
template <class Type, bool kKeys>
struct PagedRows {
  const AttendArgs& a;
  const std::int32_t* table;
  int head;

  RF_DEVICE PagedRows(const AttendArgs& args, int sequence, int kv_head)
      : a(args), table(args.block_tables + sequence * args.max_blocks), head(kv_head) {}

  RF_DEVICE KvRow<Type> operator[](int position) const {
    const std::int64_t block = table[position / a.block_size];
    const char* base = static_cast<const char*>(a.cache) + block * a.layout.bytes;
    if constexpr (kKeys)
      return kv_keys<Type>(base, a.layout, head, a.block_size, a.head_dim)
          .row(position % a.block_size);
    else
      return kv_values<Type>(base, a.layout, head, a.block_size, a.value_dim)
          .row(position % a.block_size);
  }
};

}  // namespace rocmforge::gpu
