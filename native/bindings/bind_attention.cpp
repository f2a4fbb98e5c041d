// rocmforge._native.cpu, continued: attention over a paged cache, for tests and benchmarks.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "bindings/bindings.hpp"
#include "bindings/names.hpp"
#include "core/error.hpp"
#include "core/thread_pool.hpp"
#include "cpu/attention.hpp"
#include "cpu/cpu_kv_cache.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Ints = py::array_t<std::int32_t, py::array::c_style | py::array::forcecast>;

constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;

// With tiles, every number of rows goes through them if the cache fits.
// The cache starts as NaN, so that whatever reads a position that nobody stored shows it.
class PagedAttention {
 public:
  PagedAttention(int num_heads, int num_kv_heads, int head_dim, int value_dim, float scale,
                 const std::string& kv_dtype, std::int64_t num_blocks, std::int64_t block_size,
                 int num_layers, int num_threads, const std::optional<std::string>& isa, bool tiles)
      : spec_(spec(num_heads, num_kv_heads, head_dim, value_dim, scale, num_layers)),
        kernels_(kernels_named(isa)),
        kv_(spec_, kv_type_named(kv_dtype), num_blocks, block_size),
        pool_(num_threads),
        tiles_(tiles) {
    check(!tiles || kernels_.attend_tiles.scratch_bytes, ErrorCode::kUnsupported,
          "the level has no matrix tiles");
    kernels_.attend_tiles.min_rows = 1;
    std::memset(kv_.memory().data(), 0xff, kv_.memory().size());
  }

  // k [n, kv_heads, head_dim], v [n, kv_heads, value_dim], slots [n]
  void store(int layer, const Floats& k, const Floats& v, const Ints& slots) {
    check(layer >= 0 && layer < spec_.num_layers, kCode, "there is no such layer");
    check(has_shape(k, slots.size(), spec_.num_kv_heads, spec_.head_dim) &&
              has_shape(v, slots.size(), spec_.num_kv_heads, spec_.value_dim),
          kCode, "k and v hold a row per slot and KV head");
    for (py::ssize_t i = 0; i < slots.size(); ++i) {
      const std::int32_t slot = slots.data()[i];
      check(slot >= 0 && slot < kv_.num_blocks() * kv_.block_size(), kCode,
            "a slot lies outside of the cache");
      for (std::int64_t h = 0; h < spec_.num_kv_heads; ++h)
        kv_.store(kernels_, layer, h, slot, k.data(i, h, 0), v.data(i, h, 0));
    }
  }

  // [layers, T, heads, value_dim] of q [T, heads, head_dim]
  py::array_t<float> attend(const Floats& q, const Ints& positions, const Ints& query_start_loc,
                            const Ints& block_tables) {
    check(has_shape(q, positions.size(), spec_.num_heads, spec_.head_dim), kCode,
          "q holds a row per position and head");
    check(block_tables.ndim() == 2 && query_start_loc.size() == block_tables.shape(0) + 1, kCode,
          "block_tables has a row per sequence, query_start_loc one entry more");
    const std::int64_t limit = block_tables.shape(1) * kv_.block_size();
    for (py::ssize_t i = 0; i < positions.size(); ++i)
      check(positions.data()[i] >= 0 && positions.data()[i] < limit, kCode,
            "the block table must cover every position");
    for (py::ssize_t i = 0; i < block_tables.size(); ++i)
      check(block_tables.data()[i] >= 0 && block_tables.data()[i] < kv_.num_blocks(), kCode,
            "block ids must lie inside the cache");
    for (py::ssize_t i = 0; i <= block_tables.shape(0); ++i) {
      const std::int32_t previous = i ? query_start_loc.data()[i - 1] : 0;
      check(previous <= query_start_loc.data()[i] && query_start_loc.data()[i] <= positions.size(),
            kCode, "query_start_loc must not decrease and stay within the tokens");
    }

    const std::vector<py::ssize_t> shape{spec_.num_layers, positions.size(), spec_.num_heads,
                                         spec_.value_dim};
    py::array_t<float> y(shape);
    Batch batch;
    // Attention asks for the number of tokens and of sequences, not for what they are.
    batch.token_ids =
        batch.positions = {positions.data(), static_cast<std::size_t>(positions.size())};
    batch.query_start_loc = {query_start_loc.data(),
                             static_cast<std::size_t>(query_start_loc.size())};
    batch.seq_lens = batch.query_start_loc.subspan(1);
    batch.block_tables = {block_tables.data(), static_cast<std::size_t>(block_tables.size())};
    batch.max_blocks = block_tables.shape(1);
    float* out = y.mutable_data();
    const float* queries = q.data();
    const std::int64_t stride = spec_.q_size();
    py::gil_scoped_release nogil;
    for (int layer = 0; layer < spec_.num_layers; ++layer) {
      float* rows = out + layer * batch.num_tokens() * spec_.num_heads * spec_.value_dim;
      attention_.run({kernels_, spec_, kv_, batch, layer, rows, queries, stride, nullptr, tiles_},
                     pool_);
    }
    return y;
  }

  std::int64_t bytes() const { return kv_.bytes(); }

 private:
  static bool has_shape(const Floats& x, py::ssize_t a, py::ssize_t b, py::ssize_t c) {
    return x.ndim() == 3 && x.shape(0) == a && x.shape(1) == b && x.shape(2) == c;
  }

  static DecoderSpec spec(int num_heads, int num_kv_heads, int head_dim, int value_dim, float scale,
                          int num_layers) {
    check(num_heads > 0 && num_kv_heads > 0 && num_heads % num_kv_heads == 0 && head_dim > 0 &&
              value_dim > 0 && num_layers > 0,
          kCode, "sizes must be positive and num_heads a multiple of num_kv_heads");
    DecoderSpec s;
    s.num_layers = num_layers;
    s.num_heads = num_heads;
    s.num_kv_heads = num_kv_heads;
    s.head_dim = head_dim;
    s.value_dim = value_dim;
    s.attention_scale = scale;
    return s;
  }

  DecoderSpec spec_;
  cpu::Kernels kernels_;
  cpu::CpuKvCache kv_;
  ThreadPool pool_;
  bool tiles_;
  cpu::Attention attention_;
};

}  // namespace

void bind_attention(py::module_& m) {
  py::class_<PagedAttention>(m, "PagedAttention")
      .def(py::init<int, int, int, int, float, const std::string&, std::int64_t, std::int64_t, int,
                    int, const std::optional<std::string>&, bool>(),
           py::kw_only(), py::arg("num_heads"), py::arg("num_kv_heads"), py::arg("head_dim"),
           py::arg("value_dim"), py::arg("scale"), py::arg("kv_dtype"), py::arg("num_blocks"),
           py::arg("block_size"), py::arg("num_layers") = 1, py::arg("num_threads") = 1,
           py::arg("isa") = py::none(), py::arg("tiles") = false)
      .def("store", &PagedAttention::store, py::arg("layer"), py::arg("k"), py::arg("v"),
           py::arg("slots"))
      .def("attend", &PagedAttention::attend, py::arg("q"), py::arg("positions"),
           py::arg("query_start_loc"), py::arg("block_tables"))
      .def_property_readonly("nbytes", &PagedAttention::bytes);
}

}  // namespace rocmforge::bindings
