// Keys and values of a step into their slots of the paged cache: a wave a row. The layout is
// KvLayout's.
#include "include/kv_types.hpp"

namespace rocmforge::gpu {
namespace {

template <int kWave, class Type>
RF_DEVICE void store_row(const KvRow<Type>& row, const float* x, int n) {
  auto* values = const_cast<typename Type::Element*>(row.values);
  for (int i = thread_index() % kWave; i < n; i += kWave) values[i] = Type::to(x[i]);
}

// d = max|x| / 127 as float16, q = x / d to the nearest integer within +-127; where an x is
// infinite or NaN or above 127 * 65504, so is d, and what comes back.
template <int kWave>
RF_DEVICE void store_row_q8(const KvRow<KvQ8>& row, const float* x, int n) {
  auto* values = const_cast<std::int8_t*>(row.values);
  auto* scales = const_cast<std::uint16_t*>(row.scales);
  for (int first = 0; first < n; first += kWave) {
    const int i = first + thread_index() % kWave;
    const float v = i < n ? x[i] : 0.0f;  // n % 32 == 0: groups are whole
    const std::uint32_t highest =
        reduce_lanes<kWave, 32>(quant::bits_of_float(v) & 0x7fffffffu, Max{});
    const std::uint16_t half = quant::float_to_half(quant::float_of_bits(highest) / 127.0f);
    const float d = half_to_float(half);
    const float inverse = d > 0.0f ? 1.0f / d : 0.0f;
    float q = v * inverse;
    q = q < 127.0f ? q : 127.0f;
    q = q > -127.0f ? q : -127.0f;
    if (i >= n) continue;
    values[i] = static_cast<std::int8_t>(round_to_even(q));
    if (i % 32 == 0) scales[i / 32] = half;
  }
}

template <int kWave, class Type>
RF_DEVICE void store_kv(const StoreKvArgs& a) {
  const std::int64_t t = block_x();
  const int index = block_y() * (kThreads / kWave) + thread_index() / kWave;
  if (t >= *a.num_tokens || index >= 2 * a.kv_heads) return;
  const int slot = a.slot_mapping[t];
  if (slot < 0) return;
  const char* block = static_cast<const char*>(a.cache) + (slot / a.block_size) * a.layout.bytes;
  const bool is_key = index < a.kv_heads;
  const int head = is_key ? index : index - a.kv_heads;
  const int n = is_key ? a.head_dim : a.value_dim;
  const float* x = (is_key ? a.k : a.v) + t * a.row_stride + std::int64_t{head} * n;
  const KvHead<Type> to = is_key ? kv_keys<Type>(block, a.layout, head, a.block_size, n)
                                 : kv_values<Type>(block, a.layout, head, a.block_size, n);
  if constexpr (Type::kScaled)
    store_row_q8<kWave>(to.row(slot % a.block_size), x, n);
  else
    store_row<kWave, Type>(to.row(slot % a.block_size), x, n);
}

}  // namespace

RF_KERNEL_VARIANT(store_kv, f32, StoreKvArgs, store_kv, KvF32)
RF_KERNEL_VARIANT(store_kv, f16, StoreKvArgs, store_kv, KvF16)
RF_KERNEL_VARIANT(store_kv, bf16, StoreKvArgs, store_kv, KvBf16)
RF_KERNEL_VARIANT(store_kv, q8_0, StoreKvArgs, store_kv, KvQ8)
RF_EXPECT("store_kv_*", 48)

}  // namespace rocmforge::gpu
