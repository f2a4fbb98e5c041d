// From named tensors to the groups a backend prepares.
#pragma once

#include "model/decoder.hpp"

namespace rocmforge {

// `use` is kProducts where it serves as the output matrix too.
LinearPtr load_embedding(Backend& backend, const DecoderSpec& spec, const WeightMap& weights,
                         WeightUse use);
LayerWeights load_layer(Backend& backend, const DecoderSpec& spec, const WeightMap& weights,
                        int layer);
InputWeights load_input(Backend& backend, const DecoderSpec& spec, const WeightMap& weights);
StoragePtr load_output_norm(Backend& backend, const DecoderSpec& spec, const WeightMap& weights);
// Whether the file has no output matrix: the embedding then serves as one (tied embeddings).
bool is_tied(const WeightMap& weights);
LinearPtr load_output(Backend& backend, const DecoderSpec& spec, const WeightMap& weights);
// Null where the model has none.
StoragePtr load_output_bias(Backend& backend, const DecoderSpec& spec, const WeightMap& weights);

}  // namespace rocmforge
