// What a device must provide to run a model, cut where fusion happens: embed, five stages a
// layer, head and output. Every stage has a default body made of the primitives below it
// (backend.cpp), which is what a new device or architecture starts from and what a fused version is
// tested against. Calls are made in order by one thread; a device may still be at work when they
// return, and to_host() waits for what it brings.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/tensor.hpp"
#include "model/batch.hpp"
#include "model/kv_type.hpp"
#include "model/spec.hpp"

namespace rocmforge {

struct SamplingBatch;

// Device memory, freed with the object.
class Storage {
 public:
  virtual ~Storage() = default;
  float* floats() const { return static_cast<float*>(data_); }
  void* data() const { return data_; }

 protected:
  explicit Storage(void* data) : data_(data) {}
  void* data_;
};
using StoragePtr = std::unique_ptr<Storage>;

// One or more matrices that share their input, in the backend's own layout: q, k and v, or gate
// and up. Their output rows follow one another.
class LinearWeights {
 public:
  virtual ~LinearWeights() = default;
  std::int64_t rows() const { return rows_; }  // of all parts together
  std::int64_t cols() const { return cols_; }
  std::int64_t num_matrices() const { return num_matrices_; }  // experts, else 1
  std::int64_t bytes() const { return bytes_; }                // read by one full pass

 protected:
  std::int64_t rows_ = 0, cols_ = 0, num_matrices_ = 1, bytes_ = 0;
};
using LinearPtr = std::unique_ptr<LinearWeights>;

enum class WeightUse {
  kProducts,  // linear(), and embed() of a model whose output matrix is its embedding
  kTable,     // embed() alone
  kExact,     // products that round nothing but float32: a choice hangs on them (expert routers)
};

// Keys and values of all layers. The layout is the backend's; callers know block ids only.
class KvCache {
 public:
  virtual ~KvCache() = default;
  std::int64_t num_blocks() const { return num_blocks_; }
  std::int64_t block_size() const { return block_size_; }  // positions
  std::int64_t bytes() const { return bytes_; }
  std::int64_t block_bytes() const { return bytes_ / num_blocks_; }  // of all layers

 protected:
  std::int64_t num_blocks_ = 0, block_size_ = 0, bytes_ = 0;
};
using KvCachePtr = std::unique_ptr<KvCache>;

// What happens to embeddings of tokens. Null pointers are steps the architecture does not have.
struct InputWeights {
  StoragePtr type;       // [hidden] added to all: of the one kind of text there is
  StoragePtr positions;  // [positions, hidden]
  StoragePtr norm;       // of hidden values, on the sum
};

// Likewise.
struct LayerWeights {
  StoragePtr attn_norm;          // of hidden values, before attention
  LinearPtr qkv;                 // [q + k + v, hidden]
  StoragePtr qkv_bias;           // [q + k + v]
  StoragePtr q_norm;             // [head_dim] or [q], by DecoderSpec::qk_norm; or [2, q]
  StoragePtr k_norm;             // [head_dim], [k] or [2, k]
  StoragePtr sinks;              // [heads]
  LinearPtr latent_down;         // in place of qkv: [query latent or queries + head_dim, hidden]
  StoragePtr latent_query_norm;  // [latent query size]
  LinearPtr latent_query_up;     // [heads * query dim, latent query size]
  StoragePtr latent_norm;        // [latent size]
  LinearPtr latent_key_up;       // heads x [latent size, key dim]
  LinearPtr latent_value_up;     // heads x [value dim, latent size]
  LinearPtr attn_output;         // [hidden, heads * value_dim]
  StoragePtr attn_output_bias;   // [hidden]
  StoragePtr attn_post_norm;     // of hidden values, on what attention adds
  StoragePtr attn_sum_norm;      // of hidden values, with what attention has added
  StoragePtr attn_sum_norm_2;    // likewise, on what attn_sum_norm gives, added to its input again
  StoragePtr ffn_norm;           // of hidden values, before the feed-forward network
  LinearPtr router;              // [experts, hidden]
  StoragePtr router_bias;        // [experts]
  StoragePtr router_choice;      // [experts] added to shares where experts are chosen, only there
  LinearPtr gate_up;             // experts x [gate + up, hidden], or [up, hidden]
  StoragePtr gate_up_bias;       // experts x [gate + up]
  LinearPtr down;                // experts x [hidden, ffn]
  StoragePtr down_bias;          // experts x [hidden]
  LinearPtr shared_gate_up;      // [gate + up, hidden] of the expert that all tokens go to
  LinearPtr shared_down;         // [hidden, shared ffn]
  LinearPtr shared_router;       // [1, hidden]: its share of that expert, by a sigmoid
  StoragePtr ffn_post_norm;      // of hidden values, on what the feed-forward network adds
  StoragePtr ffn_sum_norm;       // of hidden values, with what the feed-forward network has added
};

// Which token rows go to which expert. Slots are sorted by expert, then token.
struct Routing {
  ExpertGate gate = ExpertGate::kSoftmax;
  bool sums_to_one = true;          // weights are shares among the chosen experts, else among all
  float scale = 1.0f;               // on every weight
  const Storage* choice = nullptr;  // LayerWeights::router_choice
  std::vector<std::int32_t> expert_begin;  // [experts + 1] first slot of each expert
  std::vector<std::int32_t> slot_token;    // [T * used] token row of each slot
  std::vector<std::int32_t> token_slot;    // [T, used] slot of each token's j-th expert
  std::vector<float> weight;               // [T, used]
};

// The buffers of a step, T = the most tokens a step may have. R grows with what is asked for.
struct Activations {
  StoragePtr hidden;         // [T, hidden] the residual stream
  StoragePtr incoming;       // [T, hidden] of another device, where layers follow those of one
  StoragePtr normed;         // [T, hidden]
  StoragePtr qkv;            // [T, q + k + v]
  StoragePtr attended;       // [T, heads * value_dim]
  StoragePtr latent;         // [T, DecoderSpec::latent_inputs()]
  StoragePtr latent_query;   // [T, latent query size]
  StoragePtr latent_heads;   // [T, heads * query dim] before, [T, attended_size] after attention
  StoragePtr gate_up;        // [T * used, 2 * ffn]
  StoragePtr activated;      // [T * used, ffn]
  StoragePtr projected;      // [T * used, hidden]
  StoragePtr deferred;       // [T, hidden] of attention, with a parallel residual
  StoragePtr router_logits;  // [T, experts]
  StoragePtr head_normed;    // [R, hidden]
  StoragePtr logits;         // [R, vocab]
  Routing routing;
};

// An input matrix on its way into linear(): the floats, and what the backend derived from them
// once for all users (quantized copies).
struct PreparedActivation {
  const float* x = nullptr;  // [rows, cols]
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

// Heads of rows that have other things between them.
struct Heads {
  float* x;
  std::int64_t row_stride, head_stride;
};

struct Step {
  const DecoderSpec& spec;
  const Batch& batch;
  Activations& a;
  KvCache& kv;
  bool has_head = true;  // false: another device has the head, and this one's result is a.hidden
  int layer = 0;         // of those that the backend has; so is that of spec.layers
  const LayerWeights* next = nullptr;  // the layer after this stage's, if it is this backend's
  const Storage* sinks = nullptr;      // of the layer, in attention()
};

class Backend {
 public:
  virtual ~Backend() = default;

  // --- at load
  virtual std::string_view name() const = 0;
  // Zeroed memory on the device. Throws Error(kOutOfMemory).
  virtual StoragePtr allocate(std::int64_t bytes) = 0;
  virtual StoragePtr upload(std::span<const float> values) = 0;
  // The parts share cols and num_matrices. May keep pointing at their memory.
  virtual LinearPtr prepare(std::span<const Tensor> parts, WeightUse use) = 0;
  virtual KvCachePtr create_kv_cache(const DecoderSpec& spec, KvType type, std::int64_t num_blocks,
                                     std::int64_t block_size) = 0;
  // The first `count` floats of what this backend allocated, for the host to read and to write
  // over, until the next call for it or the next step.
  virtual float* to_host(Storage& storage, std::int64_t count) = 0;
  // Fills the first floats of what this backend allocated; `values` may change at once.
  virtual void from_host(Storage& storage, std::span<const float> values) = 0;

  // A block of all layers, KvCache::block_bytes() in an order of the backend's own. Positions that
  // were never stored are anything.
  virtual void read_kv(const KvCache& kv, std::int64_t block, std::byte* to) = 0;
  virtual void write_kv(KvCache& kv, std::int64_t block, const std::byte* from) = 0;

  // A number that grows as a stage proceeds, if the backend can tell. For any thread.
  virtual std::uint64_t progress() const noexcept { return 0; }

  // --- one step
  virtual void begin_step(Step& s) = 0;  // whatever depends on the batch alone, such as rope angles
  // Makes the calls of a step from embed() or receive() on, which `stages` does and may do again
  // with the same result; a device that has recorded them replays the record instead.
  virtual void run(Step& s, const std::function<void()>& stages);
  virtual void embed(Step& s, const LinearWeights& table) = 0;  // hidden = table[token_ids]
  virtual void receive(Step& s) = 0;                            // hidden = incoming
  // hidden = norm(hidden * scale + type + positions[position])
  virtual void embedded(Step& s, const InputWeights& w);
  virtual void qkv(Step& s, const LayerWeights& w);  // norm, projections, bias, norms, rope, KV
  void store(Step& s);  // the last of qkv, for who has keys and values of his own: cache = k, v
  virtual void attend(Step& s, const LayerWeights& w);       // attended = attention(q, cache)
  virtual void attn_output(Step& s, const LayerWeights& w);  // hidden += projection
  virtual void gate_up(Step& s, const LayerWeights& w);      // norm, projections
  virtual void down(Step& s, const LayerWeights& w);         // activation, hidden += projection
  virtual void head(Step& s, const Storage& norm);  // head_normed = norm(hidden[logit_rows])
  virtual void output(Activations& a, std::int64_t rows, const LinearWeights& w);  // logits
  // y [rows, w.rows()] = x [rows, w.cols()] times w, on the device, in a step of `rows` tokens.
  void multiply(float* y, const float* x, std::int64_t rows, const LinearWeights& w);
  // logits = cap(logits * scale + bias); `bias` may be null.
  virtual void finish_logits(const DecoderSpec& spec, Activations& a, std::int64_t rows,
                             const Storage* bias);

  // --- drawing tokens, for a device that can
  // Whether it draws all of these rows, with the ids that Sampler draws.
  virtual bool draws(const SamplingBatch& sampling) const;
  // Queues the draws and returns their number. Until the next ones a batch may refer to their ids
  // by -(row + 1).
  virtual std::int64_t draw(const Storage& logits, const SamplingBatch& sampling);
  // The ids of one of the last three draws, -1 where a row allows none; valid as long as it is one.
  virtual std::span<const std::int32_t> wait_for(std::int64_t draw);

 protected:
  // --- primitives; rows of activations are contiguous unless a stride is given
  virtual void rms_norm(float* y, const float* x, const Storage& weight, std::int64_t rows,
                        std::int64_t n, float eps) = 0;
  virtual void rms_norm_heads(float* x, std::int64_t rows, std::int64_t row_stride,
                              std::int64_t heads, std::int64_t head_dim, const Storage& weight,
                              float eps) = 0;
  // Readies x for every user of the group; valid until the next prepare_activation().
  virtual PreparedActivation prepare_activation(const float* x, std::int64_t rows,
                                                std::int64_t cols, const LinearWeights& user) = 0;
  // prepare_activation() of rms_norm(x); `normed` is memory for it that may stay unused.
  virtual PreparedActivation prepare_normed(float* normed, const float* x, const Storage& weight,
                                            std::int64_t rows, std::int64_t n, float eps,
                                            const LinearWeights& user);
  // prepare_activation() of silu_mul(x); `activated` likewise.
  virtual PreparedActivation prepare_activated(float* activated, const float* x, std::int64_t rows,
                                               std::int64_t n, const LinearWeights& user);
  virtual void linear(float* y, const PreparedActivation& x, const LinearWeights& w) = 0;
  // Slot i of y = matrix e(i) @ x[row(i)], with row(i) = slot_token[i], or i if `sorted`.
  virtual void linear_experts(float* y, const PreparedActivation& x, const LinearWeights& w,
                              const Routing& routing, bool sorted) = 0;
  virtual void add_bias(float* y, const Storage& bias, std::int64_t rows, std::int64_t n) = 0;
  virtual void rope(Step& s, float* x, std::int64_t row_stride, std::int64_t heads) = 0;
  virtual void store_kv(Step& s, const float* k, const float* v, std::int64_t row_stride) = 0;
  virtual void attention(Step& s, const float* q, std::int64_t row_stride) = 0;
  // y[rows, n] = silu(x[rows, 0..n)) * x[rows, n..2n)
  virtual void silu_mul(float* y, const float* x, std::int64_t rows, std::int64_t n) = 0;
  virtual void add(float* y, const float* x, std::int64_t n) = 0;
  virtual void gather_rows(float* y, const float* x, std::span<const std::int32_t> rows,
                           std::int64_t n) = 0;
  // The best `used` experts of each row and their weights, as `routing` says.
  virtual void route(Routing& routing, const float* logits, std::int64_t rows, std::int64_t experts,
                     std::int64_t used) = 0;
  // y[t] += sum_j weight[t, j] * x[token_slot[t, j]]
  virtual void combine(float* y, const float* x, const Routing& routing, std::int64_t rows,
                       std::int64_t n) = 0;

  // --- primitives that a device may lack, if it refuses the specs that need them when it creates
  // the cache; the default bodies throw Error(kInternal)
  // (x - mean) / sqrt(variance + eps) * weight + bias; weights [2, n]; y may be x.
  virtual void layer_norm(float* y, const float* x, const Storage& weights, std::int64_t rows,
                          std::int64_t n, float eps);
  // Every head of x alone and in place, with its part of the weights, [2, heads * head_dim].
  virtual void layer_norm_heads(float* x, std::int64_t rows, std::int64_t row_stride,
                                std::int64_t heads, std::int64_t head_dim, const Storage& weights,
                                float eps);
  // The first n values of each head.
  virtual void copy_heads(const Heads& to, const Heads& from, std::int64_t rows, std::int64_t heads,
                          std::int64_t n);
  // Every head of y = its matrix of w times the head of x.
  virtual void linear_heads(const Heads& y, const Heads& x, std::int64_t rows,
                            const LinearWeights& w);
  // y[rows, n] = activation of x, [rows, 2 n] where it is gated, else [rows, n]
  virtual void activate(Activation activation, float* y, const float* x, std::int64_t rows,
                        std::int64_t n);
  virtual void scale(float* x, float factor, std::int64_t rows, std::int64_t n);
  virtual void soft_cap(float* x, float cap, std::int64_t rows, std::int64_t n);
  // x[t] *= sigmoid(gate[t])
  virtual void gate_rows(float* x, const float* gate, std::int64_t rows, std::int64_t n);
  // x[t] += table[position of t]
  virtual void add_positions(Step& s, float* x, const Storage& table, std::int64_t n);
  // Slot i of y += row e(i) of bias, [experts, n].
  virtual void add_expert_bias(float* y, const Storage& bias, const Routing& routing,
                               std::int64_t n);

 private:
  // What attention and the feed-forward network read and add.
  void latent_qkv(Step& s, const LayerWeights& w);
  void norm_heads(Step& s, float* x, std::int64_t heads, const Storage& weight);
  PreparedActivation layer_input(Step& s, const Storage* norm, const LinearWeights& user);
  void normalise(Step& s, float* y, const float* x, const Storage& weight, std::int64_t rows);
  void add_to_hidden(Step& s, float* x, const Storage* post_norm);
  void normalise_hidden(Step& s, const Storage* norm);
  PreparedActivation activated(Step& s, std::int64_t rows, std::int64_t n,
                               const LinearWeights& user);
  void add_shared_expert(Step& s, const LayerWeights& w);
};

}  // namespace rocmforge
