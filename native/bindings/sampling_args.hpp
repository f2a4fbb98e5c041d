// A Python SamplingBatch as the C++ one: views of its arrays, which it keeps alive.
#pragma once

#include <pybind11/numpy.h>

#include <span>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "model/sampling.hpp"

namespace rocmforge::bindings {

class SamplingArgs {
 public:
  // `sampling` has the attributes of SamplingBatch (model/sampling.hpp), each a C-contiguous NumPy
  // array of exactly its element type; those with a value per row may be longer than `rows`.
  // Throws Error(kInvalidArgument) where check_sampling() does, or for any other kind of object.
  SamplingArgs(const pybind11::handle& sampling, std::int64_t rows, std::int64_t vocab) {
    batch_.temperature = leading<float>(sampling, "temperature", rows);
    batch_.top_k = leading<std::int32_t>(sampling, "top_k", rows);
    batch_.top_p = leading<float>(sampling, "top_p", rows);
    batch_.min_p = leading<float>(sampling, "min_p", rows);
    batch_.repetition_penalty = leading<float>(sampling, "repetition_penalty", rows);
    batch_.seed = leading<std::uint64_t>(sampling, "seed", rows);
    batch_.position = leading<std::int64_t>(sampling, "position", rows);
    batch_.num_logprobs = leading<std::int32_t>(sampling, "num_logprobs", rows);
    batch_.mask_row = leading<std::int32_t>(sampling, "mask_row", rows);
    batch_.adjust_offsets = leading<std::int32_t>(sampling, "adjust_offsets", rows + 1);
    const std::int64_t entries = batch_.adjust_offsets.back();
    batch_.adjust_ids = leading<std::int32_t>(sampling, "adjust_ids", entries);
    batch_.adjust_bias = leading<float>(sampling, "adjust_bias", entries);
    batch_.adjust_repeated = leading<std::uint8_t>(sampling, "adjust_repeated", entries);
    batch_.adjust_subtract = leading<float>(sampling, "adjust_subtract", entries);
    const pybind11::array masks = array<std::uint32_t>(sampling, "masks");
    check(masks.ndim() == 2, ErrorCode::kInvalidArgument, "sampling masks must have 2 dimensions");
    batch_.masks = view<std::uint32_t>(masks);
    batch_.mask_words = masks.shape(1);
    check_sampling(batch_, rows, vocab);
  }

  const SamplingBatch& batch() const { return batch_; }

 private:
  template <class T>
  pybind11::array array(const pybind11::handle& sampling, const char* name) {
    const pybind11::object value = pybind11::getattr(sampling, name, pybind11::none());
    if (!pybind11::array_t<T, pybind11::array::c_style>::check_(value))
      throw Error(ErrorCode::kInvalidArgument,
                  "sampling." + std::string(name) + " must be a C-contiguous array of " +
                      std::string(pybind11::str(pybind11::dtype::of<T>())));
    arrays_.push_back(pybind11::reinterpret_borrow<pybind11::array>(value));
    return arrays_.back();
  }

  template <class T>
  static std::span<const T> view(const pybind11::array& a) {
    return {static_cast<const T*>(a.data()), static_cast<std::size_t>(a.size())};
  }

  // The first `count` entries.
  template <class T>
  std::span<const T> leading(const pybind11::handle& sampling, const char* name,
                             std::int64_t count) {
    const std::span<const T> all = view<T>(array<T>(sampling, name));
    if (count < 0 || static_cast<std::int64_t>(all.size()) < count)
      throw Error(ErrorCode::kInvalidArgument, "sampling." + std::string(name) + " has " +
                                                   std::to_string(all.size()) + " entries, " +
                                                   std::to_string(count) + " are needed");
    return all.first(static_cast<std::size_t>(count));
  }

  std::vector<pybind11::array> arrays_;
  SamplingBatch batch_;
};

}  // namespace rocmforge::bindings
