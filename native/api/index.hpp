// What `rocmforge info M --tensors --json` says of a model: the forward pass as data, and where in
// which file each of its weights lies. Enough to map and run a model without Python.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/export.hpp"
#include "core/tensor.hpp"
#include "model/spec.hpp"

namespace rocmforge::api {

struct IndexedWeight {
  std::string name;  // the decoder's
  std::string file;
  std::int64_t offset = 0;  // of the first byte in the file
  Tensor view;              // format and shape; `data` is null until the file is mapped
};

struct ModelIndex {
  DecoderSpec spec;
  std::int64_t max_model_len = 0;  // positions that the rotations of `spec` are good for
  std::vector<IndexedWeight> weights;
};

// Throws Error(kModelFile) for text that is no such report, naming the place or the field, and
// Error(kUnsupported) for a model that this build cannot run, with the report's reason, or for a
// field that this build does not know.
RF_API ModelIndex read_index(std::string_view json);

}  // namespace rocmforge::api
