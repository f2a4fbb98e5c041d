// A loaded model that runs steps: weights, cache, buffers and the one forward pass.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/batch.hpp"
#include "model/decoder_limits.hpp"
#include "model/spec.hpp"
#include "ops/backend.hpp"

namespace rocmforge {

// Canonical GGUF names ("blk.0.attn_q.weight") to views.
using WeightMap = std::unordered_map<std::string, Tensor>;

// How far loading is, for other threads to look at.
struct LoadProgress {
  std::atomic<std::int64_t> bytes{0};  // of weights that are where they will be read
};

// Which of a decoder's backends, by number, has what. A layer is whole on one.
struct DecoderPlacement {
  int embedding = 0, output = 0;  // output: the final norm and the output matrix
  std::vector<int> layers;        // [num_layers]; empty: all on the first
};

class Decoder {
 public:
  // The memory behind `weights` must outlive the decoder. Throws Error(kModelFile) naming the
  // tensor that is missing or has another shape than the spec says.
  Decoder(std::vector<std::unique_ptr<Backend>> backends, const DecoderPlacement& placement,
          DecoderSpec spec, const WeightMap& weights, const DecoderLimits& limits,
          LoadProgress* progress = nullptr);

  // Runs one step up to the final norm: rows of hidden() then follow batch.logit_rows.
  // Checks every index of the batch first: an Error(kInvalidArgument) leaves all state as it was.
  void forward(const Batch& batch);
  // [R, hidden] of the last step.
  const float* hidden();
  // [R, vocab] of the last step, computed when first asked for; the caller may overwrite them.
  float* logits();
  std::int64_t num_rows() const { return num_rows_; }  // R of the last step

  // A block of the cache on all devices, kv_block_bytes() that mean something to a decoder of the
  // same model, options and devices alone. Between steps.
  std::int64_t kv_block_bytes() const;
  void read_kv(std::int64_t block, std::byte* to) const;
  void write_kv(std::int64_t block, const std::byte* from);

  // Whether the device that has the logits draws all of these rows, and the next step may refer to
  // what it draws: the embedding is there as well.
  bool draws(const SamplingBatch& sampling) const;
  // Queues the draws from the last step's logits, and returns their number.
  std::int64_t draw(const SamplingBatch& sampling);
  // Backend::wait_for()
  std::span<const std::int32_t> wait_for(std::int64_t draw);

  // A number that grows with every stage of a step, and within stages as the backend tells: while a
  // step runs and this stands still, nothing is done. For any thread.
  std::uint64_t progress() const noexcept {
    std::uint64_t sum = num_stages_.load(std::memory_order_relaxed);
    for (const Device& device : devices_) sum += device.backend->progress();
    return sum;
  }

  const DecoderSpec& spec() const { return spec_; }
  const DecoderLimits& limits() const { return limits_; }
  std::int64_t kv_bytes() const;                               // of all devices together
  std::int64_t weight_bytes() const { return weight_bytes_; }  // read by one decode step
  std::int64_t activation_bytes() const { return activation_bytes_; }

 private:
  // A backend with the memory that a step needs there. Blocks of the cache have the same numbers
  // on every device, each of which holds the layers that it runs.
  struct Device {
    std::unique_ptr<Backend> backend;
    DecoderSpec spec;  // num_layers and layers: of this device
    KvCachePtr kv;
    Activations activations;
  };
  // Neighbouring parts of one device; the residual stream passes from one section to the next.
  struct Section {
    int device;
    bool has_embedding = false, has_head = false;
    int begin = 0, end = 0;      // layers
    int first_device_layer = 0;  // number of layer `begin` among those of the device
  };

  void place(const DecoderPlacement& placement);
  void allocate_activations(Device& device, bool has_layers);
  void run(const Section& section, const Batch& batch);
  void move_hidden(const Section& from, const Section& to, std::int64_t tokens);
  Device& head_device() { return devices_[static_cast<std::size_t>(sections_.back().device)]; }
  void check_batch(const Batch& b) const;
  void end_stage() noexcept { num_stages_.fetch_add(1, std::memory_order_relaxed); }
  void make_logits();  // on the device
  StoragePtr allocate_floats(Device& device, std::int64_t count);

  std::vector<Device> devices_;  // before what they hold: destroyed after it
  std::vector<Section> sections_;
  DecoderSpec spec_;
  DecoderLimits limits_;
  LinearPtr embedding_;
  InputWeights input_;
  std::vector<LayerWeights> layers_;
  StoragePtr output_norm_;
  LinearPtr output_;  // null: the embedding is the output matrix as well
  StoragePtr output_bias_;
  // Sampling asks for a row a sequence, teacher forcing for a row a token, so these two buffers
  // grow to what has been asked for instead of holding max_num_tokens rows from the start.
  std::int64_t head_capacity_ = 0, logits_capacity_ = 0;  // rows
  std::int64_t num_rows_ = 0;
  float* host_logits_ = nullptr;  // of the last step, once asked for
  std::atomic<std::uint64_t> num_stages_{0};
  std::int64_t weight_bytes_ = 0;
  std::int64_t activation_bytes_ = 0;
};

}  // namespace rocmforge
