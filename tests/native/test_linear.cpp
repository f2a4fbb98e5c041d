// Every format at every ISA over buffers of exactly the needed size, for the address sanitizer.
#include <doctest/doctest.h>

#include <algorithm>
#include <new>
#include <random>

#include "cpu/kernels.hpp"
#include "quant/activations.hpp"

using namespace rocmforge;

namespace {

// Exactly `count` values, aligned to a cache line.
template <class T>
class Exact {
 public:
  explicit Exact(std::int64_t count)
      : data_(static_cast<T*>(::operator new(std::size_t(count) * sizeof(T), kAlignment))) {}
  ~Exact() { ::operator delete(data_, kAlignment); }
  Exact(const Exact&) = delete;
  T* get() const { return data_; }
  T& operator[](std::int64_t i) const { return data_[i]; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  T* data_;
};

void multiply_panels(const cpu::Kernels& k, int f, const Exact<std::uint8_t>& w,
                     std::int64_t row_bytes, const Exact<float>& x, std::int64_t n,
                     std::int64_t rows, std::int64_t cols, const Exact<float>& y) {
  const auto type = quant::kFormats[std::size_t(f)].activation;
  const std::int64_t panels = cpu::num_panels(rows), bytes = k.panels.bytes[f](n);
  const Exact<std::uint8_t> packed(panels * bytes);
  for (std::int64_t p = 0; p < panels; ++p)
    k.panels.pack[f](packed.get() + p * bytes, w.get() + p * cpu::kPanelRows * row_bytes, row_bytes,
                     n, std::min(cpu::kPanelRows, rows - p * cpu::kPanelRows));
  const Exact<std::uint8_t> columns(cpu::panel_columns_bytes(type, n, cols));
  const Exact<std::uint8_t> scratch(cpu::kPanelScratchBytes);
  const std::int64_t group = k.panels.group(type, cols);
  k.panels.pack_columns[static_cast<int>(type)](
      {columns.get(), x.get(), n, nullptr, 0, n, cols, group, 0, (cols + group - 1) / group});
  k.panels.product(f, cols)(
      {y.get(), rows, packed.get(), columns.get(), n, rows, 0, panels, cols, group, scratch.get()});
  if (!k.gemm.pack) return;
  const Exact<std::uint8_t> tiles(k.gemm.packed_bytes(n, cols));
  const Exact<std::uint8_t> space(k.gemm.scratch_bytes);
  k.gemm.pack({tiles.get(), x.get(), n, nullptr, 0, n, cols, 0,
               (cols + cpu::kGemmTileColumns - 1) / cpu::kGemmTileColumns});
  k.gemm.gemm[f]({y.get(), rows, packed.get(), tiles.get(), n, rows, 0, panels, cols, space.get()});
}

}  // namespace

TEST_CASE("linear kernels stay inside their buffers") {
  std::mt19937 random(11);
  for (const cpu::Isa isa : cpu::available_isas()) {
    const cpu::Kernels k = cpu::kernels_for(isa);
    for (int f = 0; f < quant::kNumFormats; ++f) {
      const quant::FormatInfo& format = quant::kFormats[static_cast<std::size_t>(f)];
      for (const std::int64_t cols : {1, 2, 3, 5, 9, 18}) {
        for (const std::int64_t rows : {1, 3, 17, 50}) {
          // A whole chunk and an odd rest, wherever blocks are smaller than a chunk of 256.
          const std::int64_t n = format.block_weights == 1    ? 291
                                 : format.block_weights == 32 ? 256 + 3 * 32
                                                              : 256;
          const std::int64_t row_bytes = n / format.block_weights * format.block_bytes;
          const Exact<std::uint8_t> w(rows * row_bytes);
          for (std::int64_t i = 0; i < rows * row_bytes; ++i) w[i] = random() & 0x3f;
          const Exact<float> x(cols * n), y(cols * rows);
          for (std::int64_t i = 0; i < cols * n; ++i) x[i] = float(random() % 64) - 32;
          k.linear_float[f](y.get(), rows, w.get(), row_bytes, x.get(), n * 4, n, 0, rows, cols);
          if (format.block_weights > 1) {
            const std::int64_t blocks = n / quant::kActivationBlock;
            const Exact<quant::BlockQ8x32> q(cols * blocks);
            for (std::int64_t c = 0; c < cols; ++c)
              k.quantize(q.get() + c * blocks, 1, x.get() + c * n, n);
            k.linear_quantized[f](y.get(), rows, w.get(), row_bytes, q.get(),
                                  blocks * std::int64_t(sizeof(quant::BlockQ8x32)), n, 0, rows,
                                  cols);
          }
          if (k.panels.multiply[f]) multiply_panels(k, f, w, row_bytes, x, n, rows, cols, y);
          k.dequantize[f](x.get(), w.get(), n);
        }
      }
    }
  }
}
