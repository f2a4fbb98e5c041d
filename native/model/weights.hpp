// From named tensors to the groups a backend prepares.
#pragma once

#include "model/decoder.hpp"

namespace rocmforge {

LinearPtr load_embedding(Backend& backend, const DecoderSpec& spec, const WeightMap& weights);
LayerWeights load_layer(Backend& backend, const DecoderSpec& spec, const WeightMap& weights,
                        int layer);
StoragePtr load_output_norm(Backend& backend, const DecoderSpec& spec, const WeightMap& weights);
// Null where the file has no output matrix: the embedding then serves as one (tied embeddings).
LinearPtr load_output(Backend& backend, const DecoderSpec& spec, const WeightMap& weights);

}  // namespace rocmforge
