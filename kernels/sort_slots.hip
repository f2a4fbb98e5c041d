// Slots in order of expert, then token: one block; a thread counts, then fills, the slots of its
// experts, so their order does not depend on timing. Reads expert[] from the cache 2 * experts
// times; at most 512 tokens of 8 experts a step that is 32 KiB a time.
#include "include/gpu.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave>
RF_DEVICE void sort_slots(const SortSlotsArgs& a) {
  const int slots = *a.num_tokens * a.used;
  for (int e = thread_index(); e < a.experts; e += kThreads) {
    int count = 0;
    for (int i = 0; i < slots; ++i) count += a.expert[i] == e;
    a.expert_begin[e + 1] = count;
  }
  barrier();
  if (thread_index() == 0) {
    int total = 0;
    a.expert_begin[0] = 0;
    for (int e = 1; e <= a.experts; ++e) a.expert_begin[e] = total += a.expert_begin[e];
    *a.num_slots = slots;
  }
  barrier();
  for (int e = thread_index(); e < a.experts; e += kThreads) {
    int slot = a.expert_begin[e];
    if (slot == a.expert_begin[e + 1]) continue;
    for (int i = 0; i < slots; ++i) {
      if (a.expert[i] != e) continue;
      a.slot_token[slot] = i / a.used;
      a.slot_expert[slot] = e;
      a.token_slot[i] = slot++;
    }
  }
}

}  // namespace

RF_KERNEL_WAVES(sort_slots, SortSlotsArgs, sort_slots)
RF_EXPECT("sort_slots", 48)

}  // namespace rocmforge::gpu
