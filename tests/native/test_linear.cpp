// Every format at every ISA over buffers of exactly the needed size, for the address sanitizer.
#include <doctest/doctest.h>

#include <memory>
#include <random>

#include "cpu/kernels.hpp"
#include "quant/activations.hpp"

using namespace rocmforge;

TEST_CASE("linear kernels stay inside their buffers") {
  std::mt19937 random(11);
  for (const cpu::Isa isa : cpu::available_isas()) {
    const cpu::Kernels k = cpu::kernels_for(isa);
    for (int f = 0; f < quant::kNumFormats; ++f) {
      const quant::FormatInfo& format = quant::kFormats[static_cast<std::size_t>(f)];
      const int type = static_cast<int>(format.activation);
      for (const std::int64_t cols : {1, 2, 3, 5, 9}) {
        for (const std::int64_t rows : {1, 3, 17}) {
          // A whole chunk and an odd rest, wherever blocks are smaller than a chunk of 256.
          const std::int64_t n = format.block_weights == 1    ? 291
                                 : format.block_weights == 32 ? 256 + 3 * 32
                                                              : 256;
          const std::int64_t row_bytes = n / format.block_weights * format.block_bytes;
          const std::int64_t x_bytes = quant::activation_row_bytes(format.activation, n);
          const auto w = std::make_unique<std::uint8_t[]>(std::size_t(rows * row_bytes));
          for (std::int64_t i = 0; i < rows * row_bytes; ++i) w[std::size_t(i)] = random() & 0x3f;
          const auto x = std::make_unique<float[]>(std::size_t(cols * n));
          for (std::int64_t i = 0; i < cols * n; ++i) x[std::size_t(i)] = float(random() % 64) - 32;
          const auto q = std::make_unique<std::uint8_t[]>(std::size_t(cols * x_bytes));
          const auto y = std::make_unique<float[]>(std::size_t(cols * rows));
          const void* activation = x.get();
          if (format.activation != quant::ActivationType::kFloat) {
            for (std::int64_t c = 0; c < cols; ++c)
              k.quantize[type](q.get() + c * x_bytes, x.get() + c * n, n);
            activation = q.get();
          }
          k.linear_quantized[f](y.get(), rows, w.get(), row_bytes, activation, x_bytes, n, 0, rows,
                                cols);
          k.linear_float[f](y.get(), rows, w.get(), row_bytes, x.get(), n * 4, n, 0, rows, cols);
          k.dequantize[f](x.get(), w.get(), n);
        }
      }
    }
  }
}
