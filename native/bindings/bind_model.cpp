// rocmforge._native.Decoder: a loaded model and its steps. Checks what comes from Python, holds
// on to the memory behind the weights, and releases the GIL around the forward pass.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bindings/bindings.hpp"
#include "bindings/names.hpp"
#include "core/error.hpp"
#include "cpu/cpu_backend.hpp"
#include "model/decoder.hpp"

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

// A weight as the loader passes it: (bytes or floats, format name, [matrices, rows, cols]).
Tensor tensor_of(const std::string& name, const py::buffer_info& memory, const std::string& format,
                 const std::vector<std::int64_t>& shape) {
  Tensor t;
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

class NativeDecoder {
 public:
  NativeDecoder(const DecoderSpec& spec, const py::dict& weights, int num_threads,
                bool float_activations, const std::string& kv_dtype, std::int64_t num_blocks,
                std::int64_t block_size, std::int64_t max_num_tokens, std::int64_t max_model_len) {
    WeightMap map;
    for (const auto& [key, value] : weights) {
      const auto name = key.cast<std::string>();
      const auto entry = value.cast<py::tuple>();
      memory_.push_back(entry[0].cast<py::buffer>().request());
      map.emplace(name, tensor_of(name, memory_.back(), entry[1].cast<std::string>(),
                                  entry[2].cast<std::vector<std::int64_t>>()));
    }
    const DecoderLimits limits{kv_type_named(kv_dtype), num_blocks, block_size, max_num_tokens,
                               max_model_len};
    auto backend = std::make_unique<cpu::CpuBackend>(
        cpu::kernels(), cpu::CpuOptions{num_threads, float_activations});
    py::gil_scoped_release nogil;
    decoder_ = std::make_unique<Decoder>(std::move(backend), spec, map, limits);
  }

  void forward(const py::object& batch, bool want_logits) {
    std::vector<Ints> keep;
    const Batch b = batch_of(batch, keep);
    {
      py::gil_scoped_release nogil;
      decoder_->forward(b, want_logits);
    }
    rows_ = b.num_logit_rows();
    has_logits_ = want_logits;
  }

  // Views of the last step's rows, valid until the next one.
  py::array_t<float> logits(const py::object& self) {
    check(has_logits_, ErrorCode::kInvalidArgument, "the last step computed no logits");
    return view(decoder_->logits(), decoder_->spec().vocab_size, self);
  }
  py::array_t<float> hidden(const py::object& self) {
    return view(decoder_->hidden(), decoder_->spec().hidden_size, self);
  }

  const Decoder& decoder() const { return *decoder_; }

 private:
  py::array_t<float> view(const float* data, std::int64_t width, const py::object& self) {
    if (rows_ == 0) return py::array_t<float>(std::vector<py::ssize_t>{0, width});
    return py::array_t<float>({rows_, width}, data, self);
  }

  std::vector<py::buffer_info> memory_;  // before decoder_: destroyed after it
  std::unique_ptr<Decoder> decoder_;
  std::int64_t rows_ = 0;
  bool has_logits_ = false;
};

}  // namespace

void bind_model(py::module_& m) {
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
      .def_readwrite("norm_eps", &DecoderSpec::norm_eps)
      .def_readwrite("attention_scale", &DecoderSpec::attention_scale)
      .def_property(
          "rope_interleaved", [](const DecoderSpec& s) { return s.rope.interleaved; },
          [](DecoderSpec& s, bool v) { s.rope.interleaved = v; })
      .def_property(
          "rope_inv_freq", [](const DecoderSpec& s) { return s.rope.inv_freq; },
          [](DecoderSpec& s, std::vector<float> v) { s.rope.inv_freq = std::move(v); })
      .def_property(
          "rope_magnitude", [](const DecoderSpec& s) { return s.rope.magnitude; },
          [](DecoderSpec& s, float v) { s.rope.magnitude = v; });

  py::class_<NativeDecoder>(m, "Decoder", "A model ready to run steps on the CPU.")
      .def(py::init<const DecoderSpec&, const py::dict&, int, bool, const std::string&,
                    std::int64_t, std::int64_t, std::int64_t, std::int64_t>(),
           py::arg("spec"), py::arg("weights"), py::kw_only(), py::arg("num_threads"),
           py::arg("float_activations"), py::arg("kv_dtype"), py::arg("num_blocks"),
           py::arg("block_size"), py::arg("max_num_tokens"), py::arg("max_model_len"))
      .def("forward", &NativeDecoder::forward, py::arg("batch"), py::arg("want_logits") = true)
      .def("logits", [](py::object self) { return self.cast<NativeDecoder&>().logits(self); })
      .def("hidden", [](py::object self) { return self.cast<NativeDecoder&>().hidden(self); })
      .def_property_readonly("weight_bytes",
                             [](const NativeDecoder& d) { return d.decoder().weight_bytes(); })
      .def_property_readonly("kv_bytes",
                             [](const NativeDecoder& d) { return d.decoder().kv().bytes(); })
      .def_property_readonly("activation_bytes",
                             [](const NativeDecoder& d) { return d.decoder().activation_bytes(); });
}

}  // namespace rocmforge::bindings
