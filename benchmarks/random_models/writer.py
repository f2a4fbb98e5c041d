"""Writes a model of a given shape with random weights, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from random_models.blocks import random_weights, weight_bytes
from random_models.shapes import Shape
from random_models.tensor_types import MIXTURES, Dense, tensor_type
from random_models.vocabulary import add_vocabulary

# Llama 3.1's frequencies: kept above 4 turns of the original context, divided below 1.
LLAMA3_CONTEXT, LLAMA3_LOW, LLAMA3_HIGH = 8192, 1.0, 4.0
EMBEDDING_GAIN = 3.0  # spreads the logits over +-10, as in real models


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]  # rows last
    format: str
    deviation: float = 0.0
    values: np.ndarray | None = None  # of a vector, instead of random weights

    @property
    def num_bytes(self) -> int:
        return weight_bytes(self.format, int(np.prod(self.shape)))


def write_random_model(path: Path, shape: Shape, mixture: str, seed: int = 0) -> None:
    """Writes the file; one that a killed process left unfinished does not carry the name."""
    if mixture not in MIXTURES:
        message = f"format is {mixture!r}; it can be {', '.join(MIXTURES)}"
        raise ValueError(message)
    partial = path.with_suffix(".partial")
    writer = GGUFWriter(partial, shape.architecture)
    _add_metadata(writer, shape, mixture)
    add_vocabulary(writer, shape.pre_tokenizer, shape.vocab_size, shape.num_special_tokens)
    tensors = list(model_tensors(shape, mixture, seed))
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name,
            tensor.shape,
            np.dtype(np.float32),
            tensor.num_bytes,
            GGMLQuantizationType[tensor.format],
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    file = writer.fout[0]
    for tensor in tensors:
        writer.write_padding(file, file.tell())
        for chunk in _chunks(tensor, seed):
            file.write(chunk.data)
    writer.write_padding(file, file.tell())
    file.close()
    partial.replace(path)


def _chunks(tensor: Tensor, seed: int) -> Iterator[np.ndarray[Any, Any]]:
    if tensor.values is not None:
        yield tensor.values.astype(np.float32)
        return
    count = int(np.prod(tensor.shape))
    yield from random_weights(tensor.name, seed, tensor.format, count, tensor.deviation)


def _add_metadata(writer: GGUFWriter, shape: Shape, mixture: str) -> None:
    writer.add_name(f"random {shape.architecture}")
    writer.add_file_type(MIXTURES[mixture][1])
    writer.add_context_length(shape.context_length)
    writer.add_block_count(shape.num_layers)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocab_size)


def model_tensors(shape: Shape, mixture: str, seed: int) -> Iterator[Tensor]:
    """All tensors of the file, in its order."""
    rng = np.random.default_rng(seed)
    model = Dense(shape.num_layers, shape.num_heads // shape.num_kv_heads)
    hidden, ffn = shape.hidden, shape.ffn
    kv_rows = shape.num_kv_heads * shape.head_dim

    def vector(name: str, size: int, around: float, deviation: float) -> Tensor:
        return Tensor(name, (size,), "F32", values=rng.normal(around, deviation, size))

    if shape.llama3_rope_factor is not None:
        factors = _llama3_factors(shape, shape.llama3_rope_factor)
        yield Tensor("rope_freqs.weight", factors.shape, "F32", values=factors)
    # Tied to the output matrix, and stored as such.
    kept = tensor_type(mixture, "output", 0, hidden, model)
    spread = EMBEDDING_GAIN * hidden**-0.5
    yield Tensor("token_embd.weight", (shape.vocab_size, hidden), kept, spread)
    yield vector("output_norm.weight", hidden, 1.0, 0.1)
    for layer in range(shape.num_layers):
        name = f"blk.{layer}"
        yield vector(f"{name}.attn_norm.weight", hidden, 1.0, 0.1)
        yield vector(f"{name}.ffn_norm.weight", hidden, 1.0, 0.1)
        for part, rows, columns in (
            ("attn_q", hidden, hidden),
            ("attn_k", kv_rows, hidden),
            ("attn_v", kv_rows, hidden),
            ("attn_output", hidden, hidden),
            ("ffn_gate", ffn, hidden),
            ("ffn_up", ffn, hidden),
            ("ffn_down", hidden, ffn),
        ):
            chosen = tensor_type(mixture, part, layer, columns, model)
            yield Tensor(f"{name}.{part}.weight", (rows, columns), chosen, columns**-0.5)
            if shape.qkv_bias and part in ("attn_q", "attn_k", "attn_v"):
                yield vector(f"{name}.{part}.bias", rows, 0.0, 0.1)


def _llama3_factors(shape: Shape, factor: float) -> np.ndarray[Any, Any]:
    exponents = np.arange(0, shape.head_dim, 2) / shape.head_dim
    turns = LLAMA3_CONTEXT * shape.rope_base**-exponents / (2 * np.pi)
    kept = np.clip((turns - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW), 0.0, 1.0)
    return 1.0 / (kept + (1.0 - kept) / factor)
