"""A configuration and the tensors of a file in the form the native decoder takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rocmforge import _native
from rocmforge.gguf import GGUFFile
from rocmforge.model.architectures import find_architecture
from rocmforge.model.config import ModelConfig
from rocmforge.model.rope import RopeConfig, rope_frequencies
from rocmforge.model.stored_formats import expanded, loaded_format
from rocmforge.model.tensors import TensorSpec

# (memory, format, (matrices, rows, columns), descriptor and offset of the file if the memory is its
# mapping, whether the memory may be lost once the weight has been prepared)
NativeWeight: TypeAlias = tuple[
    npt.NDArray[np.generic], str, tuple[int, int, int], tuple[int, int] | None, bool
]
_EMBEDDING = "token_embd.weight"  # read row by row, and perhaps prepared as the output too

_SAME_NAME = (
    "num_layers",
    "hidden_size",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "value_dim",
    "vocab_size",
    "num_experts",
    "num_experts_used",
    "shared_ffn_size",
    "num_positions",
    "norm_eps",
    "attention_scale",
    "attention_cap",
    "logit_cap",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
    "parallel_residual",
    "causal",
)


def decoder_spec(file: GGUFFile, config: ModelConfig, context: int) -> _native.DecoderSpec:
    """What the native forward pass needs of a model, for sequences of up to `context` tokens."""
    architecture = find_architecture(config.architecture)
    spec = _native.DecoderSpec()
    for name in _SAME_NAME:
        setattr(spec, name, getattr(config, name))
    spec.ffn_size = config.expert_ffn_size if config.num_experts else config.ffn_size
    spec.norm = getattr(_native.NormKind, architecture.norm.name)
    spec.activation = getattr(_native.Activation, architecture.activation.name)
    spec.qk_norm = getattr(_native.QkNorm, architecture.qk_norm_over.name)
    spec.dense_ffn_size = config.ffn_size if config.routing.num_dense_layers else 0
    spec.num_dense_layers = config.routing.num_dense_layers
    spec.expert_gate = getattr(_native.ExpertGate, config.routing.gate.name)
    spec.expert_weights_sum_to_one = config.routing.weights_sum_to_one
    spec.expert_weights_scale = config.routing.weights_scale
    spec.attention_sinks = architecture.sinks
    spec.output_bias = architecture.output_bias
    if architecture.alibi:
        spec.distance_slopes = distance_slopes(config.num_heads)
    if config.latent is not None:
        spec.latent = _native.LatentSpec(**dataclasses.asdict(config.latent))
    spec.rope = _rope(file, config.rope, context)
    if config.local_rope is not None:
        spec.local_rope = _rope(file, config.local_rope, context)
    spec.layers = [
        _native.LayerSpec(layer.window, getattr(_native.RopeUse, layer.rope.upper()))
        for layer in config.layers
    ]
    return spec


def distance_slopes(num_heads: int) -> list[float]:
    """What a head's scores lose a position (ALiBi, arXiv:2108.12409): 2^-8/n to 2^-8 for n heads.

    Where n is no power of two, those of the power below, then every other of the power above.
    """
    below = 1 << (num_heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * head / below) for head in range(1, below + 1)]
    between = [2.0 ** (-4.0 * head / below) for head in range(1, 2 * below, 2)]
    return (slopes + between)[:num_heads]


def _rope(file: GGUFFile, rope: RopeConfig, context: int) -> _native.RopeSpec:
    frequencies = rope_frequencies(file, rope, context).tolist()
    return _native.RopeSpec(rope.interleaved, frequencies, rope.magnitude())


def native_weights(file: GGUFFile, spec: TensorSpec) -> Iterator[tuple[str, NativeWeight]]:
    """The pieces of a tensor under the decoder's names."""
    tensor = file.tensors[spec.name]
    weight_format, is_expanded = loaded_format(tensor), tensor.type.name in _native.STORED_FORMATS
    data = expanded(file, tensor) if is_expanded else file.tensor_data(spec.name)
    if spec.kind == "vector":
        floats = _native.cpu.dequantize(tensor.type.name, data)
        if not spec.parts:
            columns, rows = (*spec.shape, 1)[:2]
            yield spec.name, (floats, "F32", (1, rows, columns), None, False)
            return
        begin = 0
        for name, size in spec.parts:
            yield name, (floats[begin : begin + size], "F32", (1, 1, size), None, False)
            begin += size
        return
    columns, rows, matrices = (*spec.shape, 1)[:3]
    aligned = data.ctypes.data % 4 == 0
    if not aligned:  # a file with general.alignment below 4: float rows need more
        data = data.copy()
    place = file.tensor_place(spec.name) if aligned and not is_expanded else None
    is_temporary = is_expanded and spec.name != _EMBEDDING
    row_bytes = data.nbytes // (rows * matrices)
    begin = 0
    for name, size in spec.parts or ((spec.name, rows),):
        piece = data[begin * row_bytes : (begin + size) * row_bytes * matrices]
        at = None if place is None else (place[0], place[1] + begin * row_bytes)
        yield name, (piece, weight_format, (matrices, size, columns), at, is_temporary)
        begin += size
