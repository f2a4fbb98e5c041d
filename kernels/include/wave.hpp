// Sums and maxima over lanes, by the same tree on every device: lane i is paired with i ^ mask for
// mask = kLanes / 2 down to 1, and every lane gets the result.
#pragma once

namespace rocmforge::gpu {

struct Sum {
  template <class T>
  RF_DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};

struct Max {
  template <class T>
  RF_DEVICE T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};

// Over each group of kLanes neighbouring lanes of a wave. All lanes of the wave must call it.
template <int kWave, int kLanes, class Op, class T>
RF_DEVICE T reduce_lanes(T v, Op op) {
  static_assert(kLanes <= kWave && (kLanes & (kLanes - 1)) == 0);
#if defined(RF_GPU_HOST)
  return host_reduce<kWave, kLanes>(v, op);
#else
  if constexpr (kLanes > 32) v = op(v, shuffle_xor<kWave, 32>(v));
  if constexpr (kLanes > 16) v = op(v, shuffle_xor<kWave, 16>(v));
  if constexpr (kLanes > 8) v = op(v, shuffle_xor<kWave, 8>(v));
  if constexpr (kLanes > 4) v = op(v, shuffle_xor<kWave, 4>(v));
  if constexpr (kLanes > 2) v = op(v, shuffle_xor<kWave, 2>(v));
  if constexpr (kLanes > 1) v = op(v, shuffle_xor<kWave, 1>(v));
  return v;
#endif
}

// What the lanes of a wave did to shared memory is done, as barrier() for a block.
template <int kWave>
RF_DEVICE void wave_barrier() {
#if defined(RF_GPU_HOST)
  host_reduce<kWave, kWave>(0, Max{});
#else
  join_lanes();
#endif
}

template <int kWave, class T>
RF_DEVICE T wave_sum(T v) {
  return reduce_lanes<kWave, kWave>(v, Sum{});
}

template <int kWave, class T>
RF_DEVICE T wave_max(T v) {
  return reduce_lanes<kWave, kWave>(v, Max{});
}

// Over the block; every thread gets the result. `scratch` holds kThreads / kWave values and may be
// used again after the caller's next barrier.
template <int kWave, class Op, class T>
RF_DEVICE T reduce_block(T v, T* scratch, Op op) {
  constexpr int kWaves = kThreads / kWave;
  v = reduce_lanes<kWave, kWave>(v, op);
  if (thread_index() % kWave == 0) scratch[thread_index() / kWave] = v;
  barrier();
  T total = scratch[0];
  for (int i = 1; i < kWaves; ++i) total = op(total, scratch[i]);
  return total;
}

}  // namespace rocmforge::gpu
