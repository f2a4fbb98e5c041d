#include "gpu/gpu_backend.hpp"

#include <algorithm>
#include <iterator>
#include <vector>

#include "core/buffer.hpp"
#include "core/error.hpp"
#include "gpu/limits.hpp"
#include "include/launch.hpp"

namespace rocmforge::gpu {
namespace {

constexpr std::int64_t kChunkBytes = std::int64_t{32} << 20;
constexpr std::int64_t kFloat = sizeof(float);
// Attention of single tokens is cut into parts of about so many positions, at most so many parts.
constexpr std::int64_t kSplitPositions = 256, kMaxSplits = 8;

// Rows of which there are tiles, see ToTilesArgs.
std::int64_t tiled_rows(std::int64_t rows) { return ceil_div(rows, 32) * 32; }

class DeviceStorage final : public Storage {
 public:
  DeviceStorage(Arena& arena, std::int64_t bytes)
      : Storage(bytes > 0 ? arena.allocate(bytes) : nullptr), arena_(arena) {}
  ~DeviceStorage() override {
    if (data_) arena_.free(data_);
  }

  // Memory of the host for `bytes` of it.
  float* mirror(std::int64_t bytes) {
    if (mirror_.bytes() < static_cast<std::size_t>(bytes))
      mirror_ = Buffer(static_cast<std::size_t>(bytes));
    return mirror_.floats();
  }

 private:
  Arena& arena_;
  Buffer mirror_;
};

}  // namespace

GpuBackend::GpuBackend(const GpuOptions& options)
    : options_(options),
      device_(options.driver, options.ordinal, options.code_object),
      budget_{options.memory_limit, 0},
      weights_(device_, budget_, "weights", options.weight_bytes),
      cache_(device_, budget_, "keys and values", 0),
      activations_(device_, budget_, "activations", kChunkBytes),
      linear_(device_, options.deterministic),
      step_(device_, options.limits),
      graphs_(device_) {}

GpuBackend::~GpuBackend() {
  try {
    device_.make_current();
    device_.driver().synchronize(device_.stream());
  } catch (const Error&) {  // of a lost device, which does nothing more
  }
}

StoragePtr GpuBackend::allocate(std::int64_t bytes) {
  device_.make_current();
  graphs_.forget();  // a buffer of the step may be about to move
  auto storage = std::make_unique<DeviceStorage>(activations_, bytes);
  if (bytes > 0) device_.driver().fill(storage->data(), 0, bytes, device_.stream());
  return storage;
}

StoragePtr GpuBackend::upload(std::span<const float> values) {
  device_.make_current();
  const auto bytes = static_cast<std::int64_t>(values.size_bytes());
  auto storage = std::make_unique<DeviceStorage>(weights_, bytes);
  device_.to_device(storage->data(), values.data(), bytes);
  return storage;
}

LinearPtr GpuBackend::prepare(std::span<const Tensor> parts, WeightUse use) {
  device_.make_current();
  const bool quantized = !options_.float_activations && use == WeightUse::kProducts;
  auto weights = std::make_unique<GpuWeights>(device_, weights_, parts, quantized);
  if (weights->any_quantized()) most_columns_ = std::max(most_columns_, weights->cols());
  linear_.announce(*weights, options_.limits.max_num_tokens);
  return weights;
}

KvCachePtr GpuBackend::create_kv_cache(const DecoderSpec& spec, KvType type,
                                       std::int64_t num_blocks, std::int64_t block_size) {
  device_.make_current();
  if (const std::string problem = model_problem(spec); !problem.empty())
    throw Error(ErrorCode::kUnsupported, problem);
  check_columns(spec);
  auto cache = std::make_unique<GpuKvCache>(cache_, spec, type, num_blocks, block_size);
  load_kernels(spec, type);
  reserve_step_memory(spec);
  prepare_fusion(spec, type);
  sampler_.emplace(device_, activations_, options_.limits.max_num_seqs, spec.vocab_size);
  return cache;
}

float* GpuBackend::to_host(Storage& storage, std::int64_t count) {
  device_.make_current();
  float* host = static_cast<DeviceStorage&>(storage).mirror(count * kFloat);
  device_.to_host(host, storage.data(), count * kFloat);
  return host;
}

void GpuBackend::from_host(Storage& storage, std::span<const float> values) {
  device_.make_current();
  device_.to_device(storage.data(), values.data(), static_cast<std::int64_t>(values.size_bytes()));
}

void GpuBackend::read_kv(const KvCache& kv, std::int64_t block, std::byte* to) {
  device_.make_current();
  static_cast<const GpuKvCache&>(kv).read(device_, block, to);
}

void GpuBackend::write_kv(KvCache& kv, std::int64_t block, const std::byte* from) {
  device_.make_current();
  static_cast<const GpuKvCache&>(kv).write(device_, block, from);
}

template <class T>
T* GpuBackend::reserve(std::int64_t count) {
  return static_cast<T*>(activations_.allocate(count * static_cast<std::int64_t>(sizeof(T))));
}

// Columns of a product lie along y of its grid: one by one for experts, else in eights. Tiles,
// which deterministic steps do without, have 64 in a block and reach no limit.
void GpuBackend::check_columns(const DecoderSpec& spec) const {
  const std::int64_t per_token = std::max(spec.num_experts_used, 1);
  const std::int64_t per_block = spec.num_experts ? 1 : std::end(kLinearColumns)[-1];
  const std::int64_t most = device_.properties().max_grid[1] * per_block / per_token;
  if (options_.deterministic && options_.limits.max_num_tokens > most)
    throw Error(ErrorCode::kInvalidArgument,
                "deterministic steps of " + std::to_string(options_.limits.max_num_tokens) +
                    " tokens are more than this GPU takes at once, " + std::to_string(most));
}

void GpuBackend::load_kernels(const DecoderSpec& spec, KvType type) {
  const auto kernel = [this](const std::string& name) { return device_.kernel(name); };
  const std::string cache_type(info(type).name);
  const std::int32_t head = std::max(spec.head_dim, spec.value_dim);
  const int dim = *std::find_if(std::begin(kAttendDims), std::end(kAttendDims),
                                [head](int d) { return d >= head; });
  decode_heads_ = kAttendGroup[0];
  for (const int g : kAttendGroup)
    if (decode_heads_ < spec.num_heads / spec.num_kv_heads) decode_heads_ = g;
  k_ = {
      .rms_norm = kernel("rms_norm"),
      .rms_norm_q8 = kernel("rms_norm_q8"),
      .rms_norm_bf16 = kernel("rms_norm_bf16"),
      .rms_norm_tiles = device_.find_kernel("rms_norm_tiles"),
      .rms_norm_heads = kernel("rms_norm_heads"),
      .quantize = kernel("quantize"),
      .silu_mul = kernel("silu_mul"),
      .silu_mul_q8 = kernel("silu_mul_q8"),
      .silu_mul_bf16 = kernel("silu_mul_bf16"),
      .silu_mul_tiles = device_.find_kernel("silu_mul_tiles"),
      .add = kernel("add"),
      .add_bias = kernel("add_bias"),
      .gather_rows = kernel("gather_rows"),
      .route = kernel("route"),
      .sort_slots = kernel("sort_slots"),
      .combine = kernel("combine"),
      .rope_angles = kernel("rope_angles"),
      .rope = kernel("rope"),
      .store_kv = kernel("store_kv_" + cache_type),
      .attend_prefill = kernel("attend_prefill_" + cache_type + "_d" + std::to_string(dim)),
      .attend_mma = options_.float_activations ? nullptr
                                               : device_.find_kernel("attend_mma_" + cache_type +
                                                                     "_d" + std::to_string(dim)),
      .attend_decode = kernel("attend_decode_" + cache_type + "_g" + std::to_string(decode_heads_)),
      .attend_combine = kernel("attend_combine")};
}

void GpuBackend::reserve_step_memory(const DecoderSpec& spec) {
  const std::int64_t tokens = options_.limits.max_num_tokens;
  const std::int64_t slots = tokens * std::max(spec.num_experts_used, 1);
  hidden_is_quantizable_ = spec.hidden_size % 32 == 0;
  if (most_columns_) {
    quantized_ = reserve<std::byte>(slots * q8_row_bytes(most_columns_));
    linear_.prepare(activations_, slots, most_columns_, tokens);
  }
  const auto half = static_cast<std::int64_t>(spec.rope.inv_freq.size());
  if (half) {
    cos_ = reserve<float>(tokens * half);
    sin_ = reserve<float>(tokens * half);
    inv_freq_ = reserve<float>(half);
    device_.to_device(inv_freq_, spec.rope.inv_freq.data(), half * kFloat);
  }
  const std::int64_t partials = most_decode_tokens() * spec.num_heads * kMaxSplits;
  partial_ = reserve<float>(partials * spec.value_dim);
  partial_ml_ = reserve<float>(partials * 2);
  if (!spec.num_experts) return;
  experts_ = {.expert = reserve<std::int32_t>(slots),
              .expert_begin = reserve<std::int32_t>(spec.num_experts + 1),
              .slot_token = reserve<std::int32_t>(slots),
              .slot_expert = reserve<std::int32_t>(slots),
              .token_slot = reserve<std::int32_t>(slots),
              .num_slots = reserve<std::int32_t>(1),
              .weight = reserve<float>(slots)};
}

// Deterministic steps do without: there the result of a token may not depend on how many there are.
void GpuBackend::prepare_fusion(const DecoderSpec& spec, KvType type) {
  if (options_.deterministic || !FusedStep::covers(spec)) return;
  constexpr std::int64_t kTokens = FusedStep::kMaxTokens;
  const std::int64_t partials = kTokens * spec.num_heads * FusedStep::kMaxSplits;
  FusedBuffers buffers{.input = reserve<std::byte>(kTokens * q8_row_bytes(most_columns_) + 1),
                       .inner = reserve<std::byte>(kTokens * q8_row_bytes(most_columns_) + 1),
                       .squares = reserve<float>(kTokens * spec.hidden_size / 32),
                       .partial = reserve<float>(partials * spec.value_dim),
                       .partial_ml = reserve<float>(partials * 2),
                       .arrivals = reserve<std::uint32_t>(kTokens * spec.num_heads),
                       .cos = cos_,
                       .sin = sin_};
  device_.driver().fill(buffers.arrivals, 0, kTokens * spec.num_heads * kFloat, device_.stream());
  fused_.emplace(device_, spec, type, buffers);
}

const std::int32_t* GpuBackend::count(std::int64_t rows) const {
  if (rows_are_logit_rows_) return step_.num_rows();
  return rows == num_tokens_ ? step_.num_tokens() : experts_.num_slots;
}

std::int64_t GpuBackend::typical_columns(const GpuWeights& w, std::int64_t rows) const {
  return w.num_matrices() > 1 ? num_slots_ / w.num_matrices() : rows;
}

std::int64_t GpuBackend::most_decode_tokens() const {
  return options_.deterministic ? options_.limits.max_num_tokens : options_.limits.max_num_seqs;
}

void GpuBackend::rms_norm(float* y, const float* x, const Storage& weight, std::int64_t rows,
                          std::int64_t n, float eps) {
  const RmsNormArgs args{y, nullptr, x, weight.floats(), nullptr, count(rows), narrow(n), eps};
  device_.launch(k_.rms_norm, norm_grid(rows), args);
}

void GpuBackend::rms_norm_heads(float* x, std::int64_t rows, std::int64_t row_stride,
                                std::int64_t heads, std::int64_t head_dim, const Storage& weight,
                                float eps) {
  const RmsNormHeadsArgs args{
      x, weight.floats(), count(rows), row_stride, narrow(heads), narrow(head_dim), eps};
  device_.launch(k_.rms_norm_heads, heads_grid(rows, heads, device_.properties().wave_size), args);
}

PreparedActivation GpuBackend::prepare_activation(const float* x, std::int64_t rows,
                                                  std::int64_t cols, const LinearWeights& user) {
  const GpuWeights& w = gpu_weights(user);
  linear_.set_rounded(nullptr);
  if (linear_.reads_quantized(w, typical_columns(w, rows))) {
    const QuantizeArgs args{quantized_, x, count(rows), narrow(cols)};
    device_.launch(k_.quantize, row_grid(rows, cols), args);
  }
  return {x, rows, cols};
}

PreparedActivation GpuBackend::prepare_normed(float* normed, const float* x, const Storage& weight,
                                              std::int64_t rows, std::int64_t n, float eps,
                                              const LinearWeights& user) {
  const GpuWeights& w = gpu_weights(user);
  const std::int64_t columns = typical_columns(w, rows);
  if (const auto form = linear_.reads_rounded(w, columns); form != GpuLinear::Rounded::kNot) {
    const RmsNormArgs args{nullptr, linear_.rounded(), x,         weight.floats(),
                           nullptr, count(rows),       narrow(n), eps};
    const bool tiles = form == GpuLinear::Rounded::kTiles;
    device_.launch(tiles ? k_.rms_norm_tiles : k_.rms_norm_bf16,
                   norm_grid(tiles ? tiled_rows(rows) : rows), args);
    linear_.set_rounded(normed);
    return {normed, rows, n};
  }
  if (!linear_.reads_quantized(w, columns))
    return Backend::prepare_normed(normed, x, weight, rows, n, eps, user);
  linear_.set_rounded(nullptr);
  const RmsNormArgs args{linear_.reads_floats(w, columns) ? normed : nullptr,
                         quantized_,
                         x,
                         weight.floats(),
                         nullptr,
                         count(rows),
                         narrow(n),
                         eps};
  device_.launch(k_.rms_norm_q8, norm_grid(rows), args);
  return {normed, rows, n};
}

PreparedActivation GpuBackend::prepare_activated(float* activated, const float* x,
                                                 std::int64_t rows, std::int64_t n,
                                                 const LinearWeights& user) {
  const GpuWeights& w = gpu_weights(user);
  const std::int64_t columns = typical_columns(w, rows);
  if (const auto form = linear_.reads_rounded(w, columns); form != GpuLinear::Rounded::kNot) {
    const SiluMulArgs args{nullptr, linear_.rounded(), x, count(rows), narrow(n)};
    const bool tiles = form == GpuLinear::Rounded::kTiles;
    device_.launch(tiles ? k_.silu_mul_tiles : k_.silu_mul_bf16,
                   row_grid(tiles ? tiled_rows(rows) : rows, n), args);
    linear_.set_rounded(activated);
    return {activated, rows, n};
  }
  if (!linear_.reads_quantized(w, columns) || linear_.reads_floats(w, columns))
    return Backend::prepare_activated(activated, x, rows, n, user);
  linear_.set_rounded(nullptr);
  const SiluMulArgs args{nullptr, quantized_, x, count(rows), narrow(n)};
  device_.launch(k_.silu_mul_q8, row_grid(rows, n), args);
  return {activated, rows, n};
}

void GpuBackend::linear(float* y, const PreparedActivation& x, const LinearWeights& w) {
  Columns columns;
  columns.max = columns.typical = x.rows;
  columns.count = count(x.rows);
  columns.max_rows = x.rows;
  columns.row_count = columns.count;
  linear_.multiply(y, x.x, quantized_, gpu_weights(w), columns);
}

void GpuBackend::linear_experts(float* y, const PreparedActivation& x, const LinearWeights& w,
                                const Routing&, bool sorted) {
  const GpuWeights& weights = gpu_weights(w);
  Columns columns;
  columns.max = num_slots_;
  columns.typical = typical_columns(weights, x.rows);
  columns.count = experts_.num_slots;
  columns.matrix = experts_.slot_expert;
  columns.matrix_begin = experts_.expert_begin;
  columns.max_of_matrix = num_tokens_;
  columns.row = sorted ? nullptr : experts_.slot_token;
  columns.max_rows = x.rows;
  columns.row_count = count(x.rows);
  linear_.multiply(y, x.x, quantized_, weights, columns);
}

void GpuBackend::add_bias(float* y, const Storage& bias, std::int64_t rows, std::int64_t n) {
  const AddArgs args{y, bias.floats(), count(rows), narrow(n)};
  device_.launch(k_.add_bias, row_grid(rows, n), args);
}

void GpuBackend::rope(Step& s, float* x, std::int64_t row_stride, std::int64_t heads) {
  const auto half = static_cast<std::int64_t>(s.spec.rope.inv_freq.size());
  if (!half) return;
  const RopeArgs args{x,
                      cos_,
                      sin_,
                      step_.num_tokens(),
                      row_stride,
                      narrow(heads),
                      s.spec.head_dim,
                      narrow(half),
                      s.spec.rope.interleaved};
  device_.launch(k_.rope, heads_grid(num_tokens_, heads, device_.properties().wave_size), args);
}

void GpuBackend::store_kv(Step& s, const float* k, const float* v, std::int64_t row_stride) {
  const auto& kv = static_cast<const GpuKvCache&>(s.kv);
  const StoreKvArgs args{kv.layer(s.layer),
                         k,
                         v,
                         step_.slot_mapping(),
                         step_.num_tokens(),
                         row_stride,
                         kv.layout(),
                         s.spec.num_kv_heads,
                         s.spec.head_dim,
                         s.spec.value_dim,
                         narrow(kv.block_size())};
  device_.launch(k_.store_kv,
                 store_kv_grid(num_tokens_, s.spec.num_kv_heads, device_.properties().wave_size),
                 args);
}

void GpuBackend::attention(Step& s, const float* q, std::int64_t row_stride) {
  const auto& kv = static_cast<const GpuKvCache&>(s.kv);
  AttendArgs args{};
  args.y = s.a.attended->floats();
  args.partial = partial_;
  args.partial_ml = partial_ml_;
  args.q = q;
  args.cache = kv.layer(s.layer);
  args.query_start_loc = step_.query_start_loc();
  args.seq_lens = step_.seq_lens();
  args.block_tables = step_.block_tables();
  args.num_seqs = step_.num_seqs();
  args.q_stride = row_stride;
  args.max_blocks = step_.table_stride();
  args.layout = kv.layout();
  args.heads = s.spec.num_heads;
  args.kv_heads = s.spec.num_kv_heads;
  args.head_dim = s.spec.head_dim;
  args.value_dim = s.spec.value_dim;
  args.block_size = narrow(kv.block_size());
  args.splits = 1;
  args.scale = s.spec.attention_scale;
  const bool one_token_each = num_tokens_ == s.batch.num_seqs();
  if (options_.deterministic || one_token_each)
    attend_split(args, s.batch);
  else if (k_.attend_mma)
    device_.launch(k_.attend_mma,
                   attend_mma_grid(num_tokens_, s.batch.num_seqs(), s.spec.num_heads,
                                   device_.properties().wave_size),
                   args);
  else
    device_.launch(k_.attend_prefill,
                   attend_prefill_grid(num_tokens_, s.batch.num_seqs(), s.spec.num_heads), args);
}

// In deterministic mode the number does not depend on who else is in the batch.
std::int64_t GpuBackend::splits(const Batch& batch) const {
  if (options_.deterministic) return kMaxSplits;
  const std::int32_t longest = *std::max_element(batch.seq_lens.begin(), batch.seq_lens.end());
  return std::clamp<std::int64_t>(longest / kSplitPositions, 1, kMaxSplits);
}

void GpuBackend::attend_split(AttendArgs& args, const Batch& batch) {
  args.splits = narrow(splits(batch));
  device_.launch(
      k_.attend_decode,
      attend_decode_grid(num_tokens_, args.heads, args.kv_heads, args.splits, decode_heads_), args);
  if (args.splits == 1) return;  // nothing to combine: the result is there
  device_.launch(k_.attend_combine, attend_combine_grid(num_tokens_, args.heads), args);
}

void GpuBackend::silu_mul(float* y, const float* x, std::int64_t rows, std::int64_t n) {
  const SiluMulArgs args{y, nullptr, x, count(rows), narrow(n)};
  device_.launch(k_.silu_mul, row_grid(rows, n), args);
}

void GpuBackend::add(float* y, const float* x, std::int64_t n) {
  const std::int64_t width = n / num_tokens_;
  const AddArgs args{y, x, step_.num_tokens(), narrow(width)};
  device_.launch(k_.add, row_grid(num_tokens_, width), args);
}

void GpuBackend::gather_rows(float* y, const float* x, std::span<const std::int32_t> rows,
                             std::int64_t n) {
  const GatherRowsArgs args{y, x, step_.logit_rows(), step_.num_rows(), narrow(n)};
  device_.launch(k_.gather_rows, row_grid(static_cast<std::int64_t>(rows.size()), n), args);
}

void GpuBackend::route(Routing&, const float* logits, std::int64_t rows, std::int64_t experts,
                       std::int64_t used) {
  const RouteArgs route{experts_.expert,    experts_.weight, logits,
                        step_.num_tokens(), narrow(experts), narrow(used)};
  device_.launch(k_.route, route_grid(rows, device_.properties().wave_size), route);
  const SortSlotsArgs sort{experts_.expert_begin, experts_.slot_token, experts_.slot_expert,
                           experts_.token_slot,   experts_.num_slots,  experts_.expert,
                           step_.num_tokens(),    narrow(experts),     narrow(used)};
  device_.launch(k_.sort_slots, sort_slots_grid(), sort);
}

void GpuBackend::combine(float* y, const float* x, const Routing&, std::int64_t rows,
                         std::int64_t n) {
  const CombineArgs args{y,
                         x,
                         experts_.weight,
                         experts_.token_slot,
                         step_.num_tokens(),
                         narrow(num_slots_ / rows),
                         narrow(n)};
  device_.launch(k_.combine, row_grid(rows, n), args);
}

}  // namespace rocmforge::gpu
