// rocmforge._native.Decoder: a loaded model and its steps. Checks what comes from Python, holds
// on to the memory behind the weights, and releases the GIL around the forward pass.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/bindings.hpp"
#include "bindings/drawn_steps.hpp"
#include "bindings/names.hpp"
#include "bindings/sampling_args.hpp"
#include "core/error.hpp"
#include "cpu/cpu_backend.hpp"
#include "gpu/gpu_backend.hpp"
#include "model/decoder.hpp"
#include "model/sampling.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

using Ints = py::array_t<std::int32_t, py::array::c_style>;

std::span<const std::int32_t> ints(const py::object& batch, const char* name,
                                   std::vector<Ints>& keep) {
  const py::object value = batch.attr(name);
  if (!Ints::check_(value))
    throw Error(ErrorCode::kInvalidArgument,
                std::string("batch.") + name + " must be a contiguous int32 array");
  keep.push_back(py::reinterpret_borrow<Ints>(value));
  return {keep.back().data(), static_cast<std::size_t>(keep.back().size())};
}

Batch batch_of(const py::object& o, std::vector<Ints>& keep) {
  keep.reserve(7);
  Batch b;
  b.token_ids = ints(o, "token_ids", keep);
  b.positions = ints(o, "positions", keep);
  b.slot_mapping = ints(o, "slot_mapping", keep);
  b.query_start_loc = ints(o, "query_start_loc", keep);
  b.seq_lens = ints(o, "seq_lens", keep);
  b.block_tables = ints(o, "block_tables", keep);
  b.max_blocks = keep.back().ndim() == 2 ? keep.back().shape(1) : 0;
  b.logit_rows = ints(o, "logit_rows", keep);
  return b;
}

// A weight as the loader passes it: (bytes or floats, format name, [matrices, rows, cols], what
// it is mapped from, a descriptor and an offset, or None).
Tensor tensor_of(const std::string& name, const py::buffer_info& memory, const std::string& format,
                 const std::vector<std::int64_t>& shape,
                 const std::optional<std::pair<int, std::int64_t>>& file) {
  Tensor t;
  if (file) t.file = {file->first, file->second};
  t.data = memory.ptr;
  t.format = format_named(format);
  const std::int64_t block = quant::info(t.format).block_weights;
  bool fits = shape.size() == 3;
  for (const std::int64_t n : shape) fits = fits && n > 0;
  if (!fits || shape[2] % block != 0)
    throw Error(ErrorCode::kInvalidArgument,
                "tensor " + name + " needs a shape (matrices, rows, whole blocks of columns)");
  t.num_matrices = shape[0];
  t.rows = shape[1];
  t.cols = shape[2];
  std::int64_t bytes = t.row_bytes();
  const bool overflow = __builtin_mul_overflow(bytes, t.rows, &bytes) ||
                        __builtin_mul_overflow(bytes, t.num_matrices, &bytes);
  if (overflow || bytes != memory.size * memory.itemsize)
    throw Error(ErrorCode::kInvalidArgument,
                "tensor " + name + " has " + std::to_string(memory.size * memory.itemsize) +
                    " bytes; its shape and format need another number");
  return t;
}

struct StepOutput {
  py::array token_ids, logprobs;
  py::object top_ids = py::none(), top_logprobs = py::none();
};

// How the loader names a GPU: (driver, ordinal, code object, bytes of its memory).
using GpuChoice = std::tuple<std::string, int, std::string, std::int64_t>;

// Which parts of a model are on the GPU.
struct GpuParts {
  bool embedding, output;
  std::vector<bool> layers;

  // `all`: whether the GPU is there, for every part unless `on_gpu` names them: the embedding, the
  // layers, the output.
  GpuParts(bool all, const std::optional<std::vector<bool>>& on_gpu, std::int32_t num_layers)
      : embedding(all), output(all), layers(static_cast<std::size_t>(num_layers), all) {
    if (!on_gpu) return;
    check(all && on_gpu->size() == layers.size() + 2, ErrorCode::kInvalidArgument,
          "on_gpu needs a GPU, and an entry for the embedding, every layer and the output");
    embedding = on_gpu->front();
    output = on_gpu->back();
    layers.assign(on_gpu->begin() + 1, on_gpu->end() - 1);
  }

  bool any() const { return embedding || output || num_layers() > 0; }
  bool all() const {
    return embedding && output && num_layers() == static_cast<std::ptrdiff_t>(layers.size());
  }
  std::ptrdiff_t num_layers() const { return std::count(layers.begin(), layers.end(), true); }

  bool has(const std::string& tensor, bool is_tied) const {
    if (tensor.starts_with("token_embd.")) return embedding || (output && is_tied);
    if (tensor.starts_with("position_embd.")) return embedding;
    if (!tensor.starts_with("blk.")) return output;
    return layers.at(std::stoul(tensor.substr(4)));
  }
};

struct DecoderOptions {
  int num_threads;
  bool float_activations, deterministic;
  std::int64_t max_num_seqs;
  std::optional<GpuChoice> gpu;
};

std::unique_ptr<gpu::GpuBackend> gpu_backend(const DecoderOptions& o, const GpuParts& parts,
                                             const DecoderLimits& limits,
                                             const WeightMap& weights) {
  gpu::GpuOptions options;
  std::tie(options.driver, options.ordinal, options.code_object, options.memory_limit) = *o.gpu;
  options.float_activations = o.float_activations;
  options.deterministic = o.deterministic;
  for (const auto& [name, t] : weights)
    if (parts.has(name, !weights.contains("output.weight")))
      options.weight_bytes += gpu::Arena::room_for(t.bytes());
  options.limits = {limits.max_num_tokens, o.max_num_seqs,
                    (limits.max_model_len + limits.block_size - 1) / limits.block_size};
  return std::make_unique<gpu::GpuBackend>(options);
}

// The engine's Decoder (engine/decoder.py). enqueue() returns when the draws are on the host:
// lookahead 0.
class NativeDecoder {
 public:
  NativeDecoder(const DecoderSpec& spec, const py::dict& weights, const DecoderOptions& options,
                const std::optional<std::vector<bool>>& on_gpu, const DecoderLimits& limits,
                LoadProgress* progress)
      : max_num_seqs_(options.max_num_seqs) {
    WeightMap map;
    for (const auto& [key, value] : weights) {
      const auto name = key.cast<std::string>();
      const auto entry = value.cast<py::tuple>();
      memory_.push_back(entry[0].cast<py::buffer>().request());
      map.emplace(name, tensor_of(name, memory_.back(), entry[1].cast<std::string>(),
                                  entry[2].cast<std::vector<std::int64_t>>(),
                                  entry[3].cast<std::optional<std::pair<int, std::int64_t>>>()));
      map.at(name).temporary = entry[4].cast<bool>();
    }
    py::gil_scoped_release nogil;
    const GpuParts parts(options.gpu.has_value(), on_gpu, spec.num_layers);
    std::vector<std::unique_ptr<Backend>> backends;
    if (parts.any()) {
      auto gpu = gpu_backend(options, parts, limits, map);
      gpu_ = gpu.get();
      backends.push_back(std::move(gpu));
    }
    const int cpu = static_cast<int>(backends.size());
    if (!parts.all()) {
      auto backend = std::make_unique<cpu::CpuBackend>(
          cpu::kernels(),
          cpu::CpuOptions{options.num_threads, options.float_activations, options.deterministic});
      pool_ = &backend->pool();
      backends.push_back(std::move(backend));
    } else {
      own_pool_ = std::make_unique<ThreadPool>(options.num_threads);
      pool_ = own_pool_.get();
    }
    is_on_one_gpu_ = parts.all();
    DecoderPlacement placement{parts.embedding ? 0 : cpu, parts.output ? 0 : cpu, {}};
    for (const bool on_it : parts.layers) placement.layers.push_back(on_it ? 0 : cpu);
    decoder_ =
        std::make_unique<Decoder>(std::move(backends), placement, spec, map, limits, progress);
    sampler_ = std::make_unique<Sampler>(cpu::kernels(), options.num_threads, spec.vocab_size);
  }

  std::int64_t enqueue(const py::object& batch, const py::object& sampling) {
    std::vector<Ints> keep;
    Batch b = batch_of(batch, keep);
    std::optional<SamplingArgs> args;
    if (!sampling.is_none())
      args.emplace(sampling, b.num_logit_rows(), decoder_->spec().vocab_size);
    {
      py::gil_scoped_release nogil;
      const DrawnStep& before = steps_.of(steps_.last());
      if (before.on_device >= 0) {
        b.num_drawn = static_cast<std::int64_t>(before.num_rows);
      } else {
        b.token_ids = steps_.known_ids(b.token_ids, before);
      }
      decoder_->forward(b);
      DrawnStep& step = steps_.begin();
      if (args) draw(step, args->batch());
      steps_.end();
    }
    return steps_.last();
  }

  StepOutput collect(std::int64_t handle, const py::object& self) {
    if (handle < 1 || handle > steps_.last() || handle + lookahead() < steps_.last())
      reject_handle(handle);
    DrawnStep& step = steps_.of(handle);
    if (step.on_device >= 0 && !step.is_here) {
      py::gil_scoped_release nogil;
      const std::span<const std::int32_t> ids = decoder_->wait_for(step.on_device);
      std::copy(ids.begin(), ids.end(), step.token_ids.begin());
      step.is_here = true;
    }
    const auto rows = static_cast<py::ssize_t>(step.num_rows);
    StepOutput out{py::array_t<std::int32_t>(rows, step.token_ids.data(), self),
                   py::array_t<float>(rows, step.logprobs.data(), self)};
    if (step.has_logprobs) {
      const std::vector<py::ssize_t> shape{rows, kMaxLogprobs};
      out.top_ids = py::array_t<std::int32_t>(shape, step.top_ids.data(), self);
      out.top_logprobs = py::array_t<float>(shape, step.top_logprobs.data(), self);
    }
    return out;
  }

  py::array_t<float> logits(std::int64_t handle, const py::object& self) {
    check_handle(handle);
    check(!steps_.of(handle).has_draws, ErrorCode::kInvalidArgument,
          "sampling has overwritten the step's logits");
    const std::int64_t rows = decoder_->num_rows(), vocab = decoder_->spec().vocab_size;
    if (rows == 0) return py::array_t<float>(std::vector<py::ssize_t>{0, vocab});
    const float* data = nullptr;
    {
      py::gil_scoped_release nogil;
      data = decoder_->logits();
    }
    return py::array_t<float>({rows, vocab}, data, self);
  }

  py::array_t<float> hidden(std::int64_t handle, const py::object& self) {
    check_handle(handle);
    const std::int64_t rows = decoder_->num_rows(), width = decoder_->spec().hidden_size;
    if (rows == 0) return py::array_t<float>(std::vector<py::ssize_t>{0, width});
    const float* data = nullptr;
    {
      py::gil_scoped_release nogil;
      data = decoder_->hidden();
    }
    return py::array_t<float>({rows, width}, data, self);
  }

  py::array_t<std::uint8_t> read_kv(std::int64_t block) const {
    py::array_t<std::uint8_t> bytes(decoder_->kv_block_bytes());
    auto* to = reinterpret_cast<std::byte*>(bytes.mutable_data());
    py::gil_scoped_release nogil;
    decoder_->read_kv(block, to);
    return bytes;
  }

  void write_kv(std::int64_t block, const py::array_t<std::uint8_t, py::array::c_style>& bytes) {
    check(bytes.size() == decoder_->kv_block_bytes(), ErrorCode::kInvalidArgument,
          "a block of the KV cache has kv_block_bytes bytes");
    const auto* from = reinterpret_cast<const std::byte*>(bytes.data());
    py::gil_scoped_release nogil;
    decoder_->write_kv(block, from);
  }

  const Decoder& decoder() const { return *decoder_; }
  std::int64_t max_num_seqs() const { return max_num_seqs_; }
  int num_threads() const { return pool_->num_threads(); }
  std::int64_t num_launches() const { return gpu_ ? gpu_->device().num_launches() : 0; }
  std::optional<std::string> recording_problem() const {
    const std::string problem = gpu_ ? gpu_->graphs().problem() : "";
    return problem.empty() ? std::nullopt : std::optional(problem);
  }
  std::string gemm_report() const { return gpu_ ? gpu_->gemm_report() : ""; }
  // Steps that may be queued before the one before them is collected.
  std::int64_t lookahead() const { return is_on_one_gpu_ ? DrawnSteps::kLookahead : 0; }
  std::int64_t num_device_draws() const { return num_device_draws_; }
  std::int64_t num_replays() const { return gpu_ ? gpu_->graphs().num_replays() : 0; }
  std::int64_t num_device_allocations() const {
    return gpu_ ? gpu_->device().num_allocations() : 0;
  }

 private:
  void check_handle(std::int64_t handle) const {
    if (handle != steps_.last() || handle == 0) reject_handle(handle);
  }
  [[noreturn]] void reject_handle(std::int64_t handle) const {
    throw Error(ErrorCode::kInvalidArgument, "handle " + std::to_string(handle) +
                                                 " is not that of the last step, " +
                                                 std::to_string(steps_.last()));
  }

  void draw(DrawnStep& step, const SamplingBatch& sampling) {
    step.has_draws = true;
    step.resize(static_cast<std::size_t>(decoder_->num_rows()));
    if (step.num_rows == 0) return;
    if (decoder_->draws(sampling)) {
      step.on_device = decoder_->draw(sampling);
      ++num_device_draws_;
      return;
    }
    for (const std::int32_t n : sampling.num_logprobs) step.has_logprobs |= n >= 0;
    sampler_->sample(pool_, decoder_->logits(), decoder_->spec().vocab_size, sampling,
                     step.results());
  }

  std::vector<py::buffer_info> memory_;   // before decoder_: destroyed after it
  std::unique_ptr<ThreadPool> own_pool_;  // the sampler's, where no backend has one
  std::unique_ptr<Decoder> decoder_;
  ThreadPool* pool_ = nullptr;      // own_pool_ or the CPU backend's
  gpu::GpuBackend* gpu_ = nullptr;  // owned by decoder_; null on the CPU
  std::unique_ptr<Sampler> sampler_;
  std::int64_t max_num_seqs_;
  bool is_on_one_gpu_;
  DrawnSteps steps_;
  std::atomic<std::int64_t> num_device_draws_{0};
};

}  // namespace

void bind_model(py::module_& m) {
  py::enum_<NormKind>(m, "NormKind").value("RMS", NormKind::kRms).value("LAYER", NormKind::kLayer);
  py::enum_<Activation>(m, "Activation")
      .value("SILU_GATED", Activation::kSiluGated)
      .value("GELU_GATED", Activation::kGeluGated)
      .value("OAI_GATED", Activation::kOaiGated)
      .value("GELU", Activation::kGelu)
      .value("RELU_SQUARED", Activation::kReluSquared);
  py::enum_<QkNorm>(m, "QkNorm")
      .value("HEAD", QkNorm::kHead)
      .value("EACH_HEAD", QkNorm::kEachHead)
      .value("WHOLE", QkNorm::kWhole);
  py::enum_<ExpertGate>(m, "ExpertGate")
      .value("SOFTMAX", ExpertGate::kSoftmax)
      .value("SIGMOID", ExpertGate::kSigmoid)
      .value("SPARSE_MIXER", ExpertGate::kSparseMixer);
  py::enum_<RopeUse>(m, "RopeUse")
      .value("NONE", RopeUse::kNone)
      .value("MAIN", RopeUse::kMain)
      .value("LOCAL", RopeUse::kLocal);
  py::class_<RopeSpec>(m, "RopeSpec", "Which pairs turn, and how far.")
      .def(py::init([](bool interleaved, std::vector<float> inv_freq, float magnitude) {
             return RopeSpec{interleaved, std::move(inv_freq), magnitude};
           }),
           py::arg("interleaved"), py::arg("inv_freq"), py::arg("magnitude"))
      .def_readonly("interleaved", &RopeSpec::interleaved)
      .def_readonly("inv_freq", &RopeSpec::inv_freq)
      .def_readonly("magnitude", &RopeSpec::magnitude);
  py::class_<LatentSpec>(m, "LatentSpec", "Sizes of multi-head latent attention.")
      .def(py::init([](std::int32_t size, std::int32_t query_size, std::int32_t key_dim,
                       std::int32_t value_dim) {
             return LatentSpec{size, query_size, key_dim, value_dim};
           }),
           py::arg("size"), py::arg("query_size"), py::arg("key_dim"), py::arg("value_dim"))
      .def_readonly("size", &LatentSpec::size)
      .def_readonly("query_size", &LatentSpec::query_size)
      .def_readonly("key_dim", &LatentSpec::key_dim)
      .def_readonly("value_dim", &LatentSpec::value_dim);
  py::class_<LayerSpec>(m, "LayerSpec", "What sets a layer apart from others.")
      .def(py::init([](std::int32_t window, RopeUse rope) { return LayerSpec{window, rope}; }),
           py::arg("window"), py::arg("rope"))
      .def_readonly("window", &LayerSpec::window)
      .def_readonly("rope", &LayerSpec::rope);
  py::class_<DecoderSpec>(m, "DecoderSpec", "What the forward pass needs to know of a model.")
      .def(py::init<>())
      .def_readwrite("num_layers", &DecoderSpec::num_layers)
      .def_readwrite("hidden_size", &DecoderSpec::hidden_size)
      .def_readwrite("num_heads", &DecoderSpec::num_heads)
      .def_readwrite("num_kv_heads", &DecoderSpec::num_kv_heads)
      .def_readwrite("head_dim", &DecoderSpec::head_dim)
      .def_readwrite("value_dim", &DecoderSpec::value_dim)
      .def_readwrite("ffn_size", &DecoderSpec::ffn_size)
      .def_readwrite("vocab_size", &DecoderSpec::vocab_size)
      .def_readwrite("num_experts", &DecoderSpec::num_experts)
      .def_readwrite("num_experts_used", &DecoderSpec::num_experts_used)
      .def_readwrite("num_dense_layers", &DecoderSpec::num_dense_layers)
      .def_readwrite("dense_ffn_size", &DecoderSpec::dense_ffn_size)
      .def_readwrite("expert_gate", &DecoderSpec::expert_gate)
      .def_readwrite("expert_weights_scale", &DecoderSpec::expert_weights_scale)
      .def_readwrite("shared_ffn_size", &DecoderSpec::shared_ffn_size)
      .def_readwrite("num_positions", &DecoderSpec::num_positions)
      .def_readwrite("norm_eps", &DecoderSpec::norm_eps)
      .def_readwrite("attention_scale", &DecoderSpec::attention_scale)
      .def_readwrite("attention_cap", &DecoderSpec::attention_cap)
      .def_readwrite("logit_cap", &DecoderSpec::logit_cap)
      .def_readwrite("embedding_scale", &DecoderSpec::embedding_scale)
      .def_readwrite("residual_scale", &DecoderSpec::residual_scale)
      .def_readwrite("logit_scale", &DecoderSpec::logit_scale)
      .def_readwrite("norm", &DecoderSpec::norm)
      .def_readwrite("activation", &DecoderSpec::activation)
      .def_readwrite("qk_norm", &DecoderSpec::qk_norm)
      .def_readwrite("expert_weights_sum_to_one", &DecoderSpec::expert_weights_sum_to_one)
      .def_readwrite("attention_sinks", &DecoderSpec::attention_sinks)
      .def_readwrite("output_bias", &DecoderSpec::output_bias)
      .def_readwrite("parallel_residual", &DecoderSpec::parallel_residual)
      .def_readwrite("causal", &DecoderSpec::causal)
      .def_readwrite("distance_slopes", &DecoderSpec::distance_slopes)
      .def_readwrite("latent", &DecoderSpec::latent)
      .def_readwrite("rope", &DecoderSpec::rope)
      .def_readwrite("local_rope", &DecoderSpec::local_rope)
      .def_readwrite("layers", &DecoderSpec::layers);

  py::class_<StepOutput>(m, "StepOutput", "What a step drew, one entry per logit row.")
      .def_readonly("token_ids", &StepOutput::token_ids)
      .def_readonly("logprobs", &StepOutput::logprobs)
      .def_readonly("top_ids", &StepOutput::top_ids)
      .def_readonly("top_logprobs", &StepOutput::top_logprobs);

  const auto count = [](auto get) {
    return [get](const NativeDecoder& d) { return static_cast<std::int64_t>(get(d)); };
  };
  py::class_<LoadProgress>(m, "LoadProgress", "How far loading is, for any thread.")
      .def(py::init<>())
      .def_property_readonly("loaded_bytes", [](const LoadProgress& p) { return p.bytes.load(); });
  using D = NativeDecoder;
  py::class_<NativeDecoder>(m, "Decoder", "A model ready to run steps.")
      .def(py::init([](const DecoderSpec& spec, const py::dict& weights, int num_threads,
                       bool float_activations, bool deterministic, const std::string& kv_dtype,
                       std::int64_t num_blocks, std::int64_t block_size,
                       std::int64_t max_num_tokens, std::int64_t max_num_seqs,
                       std::int64_t max_model_len, std::optional<GpuChoice> gpu,
                       const std::optional<std::vector<bool>>& on_gpu, LoadProgress* progress) {
             return std::make_unique<NativeDecoder>(
                 spec, weights,
                 DecoderOptions{num_threads, float_activations, deterministic, max_num_seqs,
                                std::move(gpu)},
                 on_gpu,
                 DecoderLimits{kv_type_named(kv_dtype), num_blocks, block_size, max_num_tokens,
                               max_model_len},
                 progress);
           }),
           py::arg("spec"), py::arg("weights"), py::kw_only(), py::arg("num_threads"),
           py::arg("float_activations"), py::arg("deterministic"), py::arg("kv_dtype"),
           py::arg("num_blocks"), py::arg("block_size"), py::arg("max_num_tokens"),
           py::arg("max_num_seqs"), py::arg("max_model_len"), py::arg("gpu") = py::none(),
           py::arg("on_gpu") = py::none(), py::arg("progress") = py::none())
      .def("enqueue", &D::enqueue, py::arg("batch"), py::arg("sampling"))
      .def("collect",
           [](py::object self, std::int64_t h) { return self.cast<D&>().collect(h, self); })
      .def("logits",
           [](py::object self, std::int64_t h) { return self.cast<D&>().logits(h, self); })
      .def("hidden",
           [](py::object self, std::int64_t h) { return self.cast<D&>().hidden(h, self); })
      .def_property_readonly("progress", [](const D& d) { return d.decoder().progress(); })
      .def_property_readonly("lookahead", &D::lookahead)
      .def_property_readonly("vocab_size",
                             count([](const D& d) { return d.decoder().spec().vocab_size; }))
      .def_property_readonly("hidden_size",
                             count([](const D& d) { return d.decoder().spec().hidden_size; }))
      .def_property_readonly("num_blocks",
                             count([](const D& d) { return d.decoder().limits().num_blocks; }))
      .def_property_readonly("block_size",
                             count([](const D& d) { return d.decoder().limits().block_size; }))
      .def_property_readonly("max_num_tokens",
                             count([](const D& d) { return d.decoder().limits().max_num_tokens; }))
      .def_property_readonly("num_device_draws", &D::num_device_draws)
      .def_property_readonly("max_num_seqs", count([](const D& d) { return d.max_num_seqs(); }))
      .def_property_readonly("max_model_len",
                             count([](const D& d) { return d.decoder().limits().max_model_len; }))
      .def_property_readonly("is_causal", [](const D& d) { return d.decoder().spec().causal; })
      .def_property_readonly("num_threads", count([](const D& d) { return d.num_threads(); }))
      .def_property_readonly("num_launches", count([](const D& d) { return d.num_launches(); }))
      .def_property_readonly("recording_problem", &D::recording_problem)
      .def_property_readonly("gemm_report", &D::gemm_report)
      .def_property_readonly("num_replays", count([](const D& d) { return d.num_replays(); }))
      .def_property_readonly("num_device_allocations",
                             count([](const D& d) { return d.num_device_allocations(); }))
      .def_property_readonly("weight_bytes",
                             count([](const D& d) { return d.decoder().weight_bytes(); }))
      .def("read_kv", &D::read_kv, py::arg("block"))
      .def("write_kv", &D::write_kv, py::arg("block"), py::arg("data"))
      .def_property_readonly("kv_block_bytes",
                             count([](const D& d) { return d.decoder().kv_block_bytes(); }))
      .def_property_readonly("kv_bytes", count([](const D& d) { return d.decoder().kv_bytes(); }))
      .def_property_readonly("activation_bytes",
                             count([](const D& d) { return d.decoder().activation_bytes(); }));
}

}  // namespace rocmforge::bindings
