"""Which tensors a model must have, from its configuration, and whether a file has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rocmforge._native import FORMATS
from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile, TensorInfo, TensorType
from rocmforge.model.architectures import Architecture, Presence, find_architecture
from rocmforge.model.config import ModelConfig

VECTOR_TYPES = (TensorType.F32, TensorType.F16, TensorType.BF16)

_LAYER = re.compile(r"blk\.(?P<layer>[0-9]+)\.")
_SPLIT_EXPERT = re.compile(r"blk\.[0-9]+\.ffn_(gate|down|up)\.[0-9]+\.weight")
# Unknown tensors with these names would take part in the forward pass; without them the answers
# would be wrong. Others (rope_freqs where it is not used, extra heads) are reported and ignored.
_PART_OF_THE_PASS = re.compile(r"(blk\.|output|token_embd|token_types|position_embd)")
# Frequencies that old converters stored although they follow from the metadata.
_HARMLESS = re.compile(r"blk\.[0-9]+\.(attn_rot_embd|attn\.rotary_emb\.inv_freq|rope_freqs)(\.|$)")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor the architecture uses. `shape` is in ggml's order: row length first."""

    name: str
    shape: tuple[int, ...]
    kind: Literal["matrix", "vector"]
    optional: bool = False


def expected_tensors(config: ModelConfig) -> list[TensorSpec]:
    """Everything a model of this configuration uses, layer by layer."""
    architecture = find_architecture(config.architecture)
    hidden, vocab = config.hidden_size, config.vocab_size
    specs = [
        TensorSpec("token_embd.weight", (hidden, vocab), "matrix"),
        TensorSpec("output_norm.weight", (hidden,), "vector"),
        TensorSpec("output.weight", (hidden, vocab), "matrix", optional=True),
    ]
    half = config.rope.rotary_dim // 2
    specs += _vector("rope_freqs.weight", half, architecture.rope_factors)
    for layer in range(config.num_layers):
        specs += _layer(config, architecture, f"blk.{layer}.")
    return specs


def _layer(config: ModelConfig, architecture: Architecture, p: str) -> Iterator[TensorSpec]:
    hidden = config.hidden_size
    q_size = config.num_heads * config.head_dim
    k_size = config.num_kv_heads * config.head_dim
    v_size = config.num_kv_heads * config.value_dim
    yield TensorSpec(p + "attn_norm.weight", (hidden,), "vector")
    for part, rows in (("q", q_size), ("k", k_size), ("v", v_size)):
        yield TensorSpec(f"{p}attn_{part}.weight", (hidden, rows), "matrix")
        yield from _vector(f"{p}attn_{part}.bias", rows, architecture.qkv_bias)
    yield from _vector(p + "attn_q_norm.weight", config.head_dim, architecture.qk_norm)
    yield from _vector(p + "attn_k_norm.weight", config.head_dim, architecture.qk_norm)
    attended = config.num_heads * config.value_dim
    yield TensorSpec(p + "attn_output.weight", (attended, hidden), "matrix")
    yield from _vector(p + "attn_output.bias", hidden, architecture.attn_output_bias)
    yield TensorSpec(p + "ffn_norm.weight", (hidden,), "vector")
    if config.num_experts:
        experts, ffn = config.num_experts, config.expert_ffn_size
        yield TensorSpec(p + "ffn_gate_inp.weight", (hidden, experts), "matrix")
        yield TensorSpec(p + "ffn_gate_exps.weight", (hidden, ffn, experts), "matrix")
        yield TensorSpec(p + "ffn_up_exps.weight", (hidden, ffn, experts), "matrix")
        yield TensorSpec(p + "ffn_down_exps.weight", (ffn, hidden, experts), "matrix")
        return
    ffn = config.ffn_size
    for part, columns, rows in (("gate", hidden, ffn), ("up", hidden, ffn), ("down", ffn, hidden)):
        yield TensorSpec(f"{p}ffn_{part}.weight", (columns, rows), "matrix")
        yield from _vector(f"{p}ffn_{part}.bias", rows, architecture.ffn_bias)


def _vector(name: str, length: int, presence: Presence) -> list[TensorSpec]:
    if presence is Presence.NEVER:
        return []
    return [TensorSpec(name, (length,), "vector", optional=presence is Presence.OPTIONAL)]


def check_tensors(file: GGUFFile, config: ModelConfig) -> list[str]:
    """Checks names, shapes and types; returns the names of tensors that nothing uses.

    Raises ModelFileError for a tensor that is missing or has another shape, UnsupportedError for
    one that this build has no kernels or no use for.
    """
    _check_layers(file, config)
    specs = {spec.name: spec for spec in expected_tensors(config)}
    unused = [name for name in file.tensors if name not in specs]
    for name in unused:
        _check_unused(file, config, name)
    missing = [s.name for s in specs.values() if not s.optional and s.name not in file.tensors]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        msg = f"{file.path}: tensor {missing[0]} is missing{more}"
        raise ModelFileError(msg, key=missing[0])
    for spec in specs.values():
        if (tensor := file.tensors.get(spec.name)) is not None:
            _check_shape(file, tensor, spec)
            _check_type(file, tensor, spec)
    return unused


def _check_layers(file: GGUFFile, config: ModelConfig) -> None:
    layers = [int(m["layer"]) for name in file.tensors if (m := _LAYER.match(name))]
    found = max(layers, default=-1) + 1
    if found != config.num_layers:
        message = f"the model says {config.num_layers} layers, its tensors {found}"
        file.metadata.fail(f"{config.architecture}.block_count", message)


def _check_unused(file: GGUFFile, config: ModelConfig, name: str) -> None:
    if _SPLIT_EXPERT.fullmatch(name):
        msg = (
            f"{file.path} keeps each expert in a tensor of its own ({name}), as files of early "
            "2024 do; convert the model again"
        )
        raise UnsupportedError(msg)
    if _PART_OF_THE_PASS.match(name) and not _HARMLESS.match(name):
        msg = f"{file.path}: tensor {name!r} has no place in architecture {config.architecture!r}"
        raise UnsupportedError(msg)


def _check_shape(file: GGUFFile, tensor: TensorInfo, spec: TensorSpec) -> None:
    if _trimmed(tensor.shape) != _trimmed(spec.shape):
        msg = (
            f"{file.path}: tensor {spec.name} is {list(tensor.shape)} where the metadata "
            f"asks for {list(spec.shape)}"
        )
        raise ModelFileError(msg, offset=tensor.offset, key=spec.name)


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """ggml does not tell [n] from [n, 1]."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _check_type(file: GGUFFile, tensor: TensorInfo, spec: TensorSpec) -> None:
    usable = [t.name for t in VECTOR_TYPES] if spec.kind == "vector" else list(FORMATS)
    if tensor.type.name not in usable:
        what = f"{spec.kind} {spec.name} is stored as {tensor.type.name}"
        msg = f"{file.path}: {what}, which is not supported there; these are: {', '.join(usable)}"
        raise UnsupportedError(msg)
