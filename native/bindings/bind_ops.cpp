// rocmforge._native.cpu, continued: attention and the elementwise kernels, for tests.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "bindings/bindings.hpp"
#include "bindings/names.hpp"
#include "core/error.hpp"
#include "cpu/kernels.hpp"

namespace py = pybind11;

namespace rocmforge::bindings {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;
using Ints = py::array_t<std::int32_t, py::array::c_style>;
using IsaName = std::optional<std::string>;

constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;

Floats rms_norm(const Floats& x, const Floats& weight, float eps, const IsaName& isa) {
  check(x.ndim() == 1 && weight.ndim() == 1 && x.size() == weight.size(), kCode,
        "x and weight must be vectors of one length");
  Floats y(x.size());
  kernels_named(isa).rms_norm(y.mutable_data(), x.data(), weight.data(), x.size(), eps);
  return y;
}

Floats silu_mul(const Floats& gate, const Floats& up, const IsaName& isa) {
  check(gate.ndim() == 1 && gate.size() == up.size(), kCode, "gate and up must have one length");
  Floats y(gate.size());
  kernels_named(isa).silu_mul(y.mutable_data(), gate.data(), up.data(), gate.size());
  return y;
}

Floats add(const Floats& y, const Floats& x, const IsaName& isa) {
  check(y.ndim() == 1 && y.size() == x.size(), kCode, "x and y must have one length");
  Floats out(y.size());
  std::copy(y.data(), y.data() + y.size(), out.mutable_data());
  kernels_named(isa).add(out.mutable_data(), x.data(), x.size());
  return out;
}

Floats rope(const Floats& head, const Floats& cos, const Floats& sin, bool interleaved,
            const IsaName& isa) {
  check(cos.size() == sin.size() && 2 * cos.size() <= head.size(), kCode,
        "cos and sin hold one value a pair, at most half of the head");
  Floats out(head.size());
  std::copy(head.data(), head.data() + head.size(), out.mutable_data());
  kernels_named(isa).rope(out.mutable_data(), cos.data(), sin.data(), 2 * cos.size(), interleaved);
  return out;
}

Bytes store_kv(const Floats& x, bool f16, const IsaName& isa) {
  const KvType type = f16 ? KvType::kF16 : KvType::kF32;
  Bytes y(x.size() * kv_element_bytes(type));
  kernels_named(isa).store_kv[static_cast<int>(type)](y.mutable_data(), x.data(), x.size());
  return y;
}

// k [blocks, block_size, head_dim] and v [blocks, block_size, value_dim], both float16 (as
// uint16) or both float32; q [group, head_dim].
Floats attend(const Floats& q, const py::array& k, const py::array& v, const Ints& block_table,
              std::int64_t seq_len, float scale, const IsaName& isa) {
  check(q.ndim() == 2 && k.ndim() == 3 && v.ndim() == 3, kCode, "q is 2-D, k and v are 3-D");
  check(k.itemsize() == v.itemsize() && (k.itemsize() == 2 || k.itemsize() == 4), kCode,
        "k and v are both uint16 (float16 bits) or both float32");
  check(k.shape(0) == v.shape(0) && k.shape(1) == v.shape(1) && k.shape(2) == q.shape(1), kCode,
        "k and v share blocks and block size, k and q the head size");
  check(seq_len >= 1 && block_table.size() * k.shape(1) >= seq_len, kCode,
        "the block table must cover seq_len positions");
  for (py::ssize_t i = 0; i < block_table.size(); ++i)
    check(block_table.data()[i] >= 0 && block_table.data()[i] < k.shape(0), kCode,
          "block ids must lie inside k");

  const KvType type = k.itemsize() == 2 ? KvType::kF16 : KvType::kF32;
  const std::int64_t element = kv_element_bytes(type);
  const std::int64_t k_bytes = k.shape(1) * k.shape(2) * element;
  const std::int64_t v_bytes = v.shape(1) * v.shape(2) * element;
  // Keys and values of a block lie together, as in the cache.
  std::vector<std::byte> pages(static_cast<std::size_t>(k.shape(0) * (k_bytes + v_bytes)));
  for (py::ssize_t b = 0; b < k.shape(0); ++b) {
    std::byte* page = pages.data() + b * (k_bytes + v_bytes);
    std::memcpy(page, static_cast<const std::byte*>(k.data()) + b * k_bytes,
                static_cast<std::size_t>(k_bytes));
    std::memcpy(page + k_bytes, static_cast<const std::byte*>(v.data()) + b * v_bytes,
                static_cast<std::size_t>(v_bytes));
  }

  Floats y({q.shape(0), v.shape(2)});
  std::vector<float> scratch(
      static_cast<std::size_t>(cpu::attend_scratch_floats(q.shape(0), q.shape(1), v.shape(2))));
  cpu::AttendArgs args{};
  args.y = y.mutable_data();
  args.q = q.data();
  args.block_table = block_table.data();
  args.k_base = pages.data();
  args.v_base = pages.data() + k_bytes;
  args.block_stride = k_bytes + v_bytes;
  args.block_size = k.shape(1);
  args.seq_len = seq_len;
  args.group = q.shape(0);
  args.head_dim = q.shape(1);
  args.value_dim = v.shape(2);
  args.scale = scale;
  args.scratch = scratch.data();
  kernels_named(isa).attend[static_cast<int>(type)](args);
  return y;
}

}  // namespace

void bind_ops(py::module_& m) {
  const auto isa = py::arg("isa") = py::none();
  m.def("rms_norm", &rms_norm, py::arg("x"), py::arg("weight"), py::arg("eps"), isa);
  m.def("silu_mul", &silu_mul, py::arg("gate"), py::arg("up"), isa);
  m.def("add", &add, py::arg("y"), py::arg("x"), isa);
  m.def("rope", &rope, py::arg("head"), py::arg("cos"), py::arg("sin"), py::arg("interleaved"),
        isa);
  m.def("store_kv", &store_kv, py::arg("x"), py::arg("f16"), isa);
  m.def("attend", &attend, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("block_table"),
        py::arg("seq_len"), py::arg("scale"), isa);
}

}  // namespace rocmforge::bindings
