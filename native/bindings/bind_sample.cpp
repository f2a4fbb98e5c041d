// rocmforge._native.cpu: drawing tokens from rows of logits, for tests and benchmarks.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "bindings/bindings.hpp"
#include "bindings/sampling_args.hpp"
#include "core/thread_pool.hpp"
#include "model/philox.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

// Owns what sampling takes: the scratch, and threads if there are several.
class BoundSampler {
 public:
  BoundSampler(std::int64_t vocab, const std::string& isa, int threads)
      : vocab_(vocab),
        pool_(threads > 1 ? std::make_unique<ThreadPool>(threads) : nullptr),
        sampler_(table_of(isa), threads, vocab) {}

  py::dict sample(py::array_t<float, py::array::c_style>& logits, const py::object& sampling) {
    check(logits.ndim() == 2 && logits.shape(1) == vocab_, ErrorCode::kInvalidArgument,
          "logits must be (rows, vocab)");
    const py::ssize_t rows = logits.shape(0);
    const SamplingArgs args(sampling, rows, vocab_);
    py::array_t<std::int32_t> ids(rows), top_ids({rows, py::ssize_t{kMaxLogprobs}});
    py::array_t<std::uint8_t> status(rows);
    py::array_t<float> logprobs(rows), top_logprobs({rows, py::ssize_t{kMaxLogprobs}});
    const SampledRows out{
        ids.mutable_data(), reinterpret_cast<SampleStatus*>(status.mutable_data()),
        logprobs.mutable_data(), top_ids.mutable_data(), top_logprobs.mutable_data()};
    float* data = logits.mutable_data();
    {
      py::gil_scoped_release nogil;
      sampler_.sample(pool_.get(), data, vocab_, args.batch(), out);
    }
    py::dict result;
    result["token_ids"] = ids;
    result["status"] = status;
    result["logprobs"] = logprobs;
    result["top_ids"] = top_ids;
    result["top_logprobs"] = top_logprobs;
    return result;
  }

 private:
  static cpu::Kernels table_of(const std::string& isa) {
    for (const cpu::Isa candidate : cpu::available_isas())
      if (cpu::name(candidate) == isa) return cpu::kernels_for(candidate);
    throw Error(ErrorCode::kUnsupported, "no " + isa + " kernels on this CPU");
  }

  std::int64_t vocab_;
  std::unique_ptr<ThreadPool> pool_;
  Sampler sampler_;
};

py::array_t<float> exponential(const py::array_t<float, py::array::c_style>& z) {
  py::array_t<float> y(z.size());
  for (py::ssize_t i = 0; i < z.size(); ++i)
    y.mutable_data()[i] = cpu::scaled_exp(z.data()[i], 0.0f, 1.0f) * 0x1p-40f;
  return y;
}

}  // namespace

void bind_sample(py::module_& m) {
  py::class_<BoundSampler>(m, "Sampler")
      .def(py::init<std::int64_t, const std::string&, int>(), py::arg("vocab"), py::arg("isa"),
           py::arg("threads") = 1)
      .def(
          "sample", &BoundSampler::sample, py::arg("logits").noconvert(), py::arg("sampling"),
          "Draws from logits float32 (rows, vocab), which it changes. Returns token_ids (-1 where\n"
          "status is not 0), status, logprobs, top_ids and top_logprobs (rows, 20).");
  m.def("sample_exp", &exponential, py::arg("z"),
        "The exponential that weights are made of, for z in [-30, 0].");
  m.def(
      "philox4x32_10",
      [](const std::array<std::uint32_t, 4>& counter, const std::array<std::uint32_t, 2>& key) {
        const PhiloxBlock block =
            philox4x32_10({{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
        return std::array<std::uint32_t, 4>{block.words[0], block.words[1], block.words[2],
                                            block.words[3]};
      },
      py::arg("counter"), py::arg("key"));
}

}  // namespace rocmforge::bindings
