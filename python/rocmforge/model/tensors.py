"""Which tensors a model must have, from its configuration, and whether a file has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rocmforge._native import FORMATS, STORED_FORMATS
from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile, TensorInfo, TensorType
from rocmforge.model.architecture import Architecture, Parallel, Presence, QkNorm
from rocmforge.model.architectures import find_architecture
from rocmforge.model.config import ModelConfig
from rocmforge.model.latent import LatentConfig
from rocmforge.model.rope import LONG_FACTORS, ROPE_FACTORS, SHORT_FACTORS

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
    """A tensor the architecture uses. `shape` is in ggml's order: row length first.

    `parts` are the names and numbers of rows under which the decoder knows pieces of it, in their
    order; without any, it is one piece of this name. The rows of a vector are its elements.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["matrix", "vector"]
    optional: bool = False
    parts: tuple[tuple[str, int], ...] = ()


def expected_tensors(config: ModelConfig) -> list[TensorSpec]:
    """Everything a model of this configuration uses, layer by layer."""
    architecture = find_architecture(config.architecture)
    hidden, vocab = config.hidden_size, config.vocab_size
    specs = [
        TensorSpec("token_embd.weight", (hidden, vocab), "matrix"),
        TensorSpec("output.weight", (hidden, vocab), "matrix", optional=True),
    ]
    if architecture.input_norm:
        specs += _norm("token_embd_norm", "token_embd_norm", hidden, architecture)
    if not architecture.sum_norms:
        specs += _norm("output_norm", "output_norm", hidden, architecture)
    if config.num_text_types:  # of which texts have the first alone
        name, shape = "token_types.weight", (hidden, config.num_text_types)
        specs.append(TensorSpec(name, shape, "vector", parts=((name, hidden),)))
    if architecture.output_bias:
        specs.append(TensorSpec("output.bias", (vocab,), "vector"))
    if config.num_positions:
        specs.append(TensorSpec("position_embd.weight", (hidden, config.num_positions), "vector"))
    half = config.rope.rotary_dim // 2
    specs += _vector(ROPE_FACTORS, half, architecture.rope_factors)
    if config.rope.has_long_factors:
        specs += [TensorSpec(name, (half,), "vector") for name in (SHORT_FACTORS, LONG_FACTORS)]
    for layer in range(config.num_layers):
        p = f"blk.{layer}."
        specs += _attention(config, architecture, p)
        specs += _feed_forward(config, architecture, p, layer)
    return specs


def _attention(config: ModelConfig, architecture: Architecture, p: str) -> Iterator[TensorSpec]:
    hidden = config.hidden_size
    if config.latent is not None:
        yield from _norm(p + "attn_norm", p + "attn_norm", hidden, architecture)
        yield from _latent_attention(config, config.latent, p)
        return
    q_size = config.num_heads * config.head_dim
    k_size = config.num_kv_heads * config.head_dim
    v_size = config.num_kv_heads * config.value_dim
    if architecture.sum_norms:
        for name in ("attn_output_norm", "attn_norm_2")[: 1 + config.two_attn_norms]:
            yield from _norm(p + name, p + name, hidden, architecture)
    elif config.two_attn_norms:
        yield from _norm(p + "attn_norm_2", p + "attn_norm", hidden, architecture)
        yield from _norm(p + "attn_norm", p + "ffn_norm", hidden, architecture)
    elif architecture.pre_norms:
        presence = architecture.first_attn_norm if p == "blk.0." else Presence.ALWAYS
        yield from _norm(p + "attn_norm", p + "attn_norm", hidden, architecture, presence)
    parts = (("q", q_size), ("k", k_size), ("v", v_size))
    if config.fused_qkv:
        rows = q_size + k_size + v_size
        yield TensorSpec(
            p + "attn_qkv.weight",
            (hidden, rows),
            "matrix",
            parts=tuple((f"{p}attn_{part}.weight", size) for part, size in parts),
        )
        biases = tuple((f"{p}attn_{part}.bias", size) for part, size in parts)
        yield from _vector(p + "attn_qkv.bias", rows, architecture.qkv_bias, biases)
    else:
        for part, rows in parts:
            yield TensorSpec(f"{p}attn_{part}.weight", (hidden, rows), "matrix")
            yield from _vector(f"{p}attn_{part}.bias", rows, architecture.qkv_bias)
    for part, heads in (("q", config.num_heads), ("k", config.num_kv_heads)):
        yield from _qk_norm(f"{p}attn_{part}_norm.weight", heads, config.head_dim, architecture)
    if architecture.sinks:
        yield TensorSpec(p + "attn_sinks.weight", (config.num_heads,), "vector")
    attended = config.num_heads * config.value_dim
    yield TensorSpec(p + "attn_output.weight", (attended, hidden), "matrix")
    yield from _vector(p + "attn_output.bias", hidden, architecture.attn_output_bias)
    if architecture.post_norms:
        name = p + "post_attention_norm"
        yield from _norm(name, name, hidden, architecture)


def _latent_attention(config: ModelConfig, latent: LatentConfig, p: str) -> Iterator[TensorSpec]:
    hidden, heads, size = config.hidden_size, config.num_heads, latent.size
    queries = heads * (latent.key_dim + config.head_dim - size)
    if latent.query_size:
        yield TensorSpec(p + "attn_q_a.weight", (hidden, latent.query_size), "matrix")
        yield TensorSpec(p + "attn_q_a_norm.weight", (latent.query_size,), "vector")
        yield TensorSpec(p + "attn_q_b.weight", (latent.query_size, queries), "matrix")
    else:
        yield TensorSpec(p + "attn_q.weight", (hidden, queries), "matrix")
    yield TensorSpec(p + "attn_kv_a_mqa.weight", (hidden, config.head_dim), "matrix")
    yield TensorSpec(p + "attn_kv_a_norm.weight", (size,), "vector")
    yield TensorSpec(p + "attn_k_b.weight", (latent.key_dim, size, heads), "matrix")
    yield TensorSpec(p + "attn_v_b.weight", (size, latent.value_dim, heads), "matrix")
    yield TensorSpec(p + "attn_output.weight", (heads * latent.value_dim, hidden), "matrix")


def _feed_forward(
    config: ModelConfig, architecture: Architecture, p: str, layer: int
) -> Iterator[TensorSpec]:
    hidden, ffn = config.hidden_size, config.ffn_size
    shares_norm = config.parallel_residual and architecture.parallel is not Parallel.BY_KEY
    if architecture.pre_norms and not shares_norm:
        yield from _norm(p + architecture.ffn_norm, p + "ffn_norm", hidden, architecture)
    if config.num_experts and layer >= config.routing.num_dense_layers:
        yield from _experts(config, architecture, p)
    else:
        if config.fused_gate_up:
            parts = tuple((f"{p}ffn_{part}.weight", ffn) for part in ("gate", "up"))
            yield TensorSpec(f"{p}ffn_up.weight", (hidden, 2 * ffn), "matrix", parts=parts)
            biases = tuple((f"{p}ffn_{part}.bias", ffn) for part in ("gate", "up"))
            yield from _vector(f"{p}ffn_up.bias", 2 * ffn, architecture.ffn_bias, biases)
        else:
            for part in ("gate", "up") if architecture.activation.gated else ("up",):
                yield TensorSpec(f"{p}ffn_{part}.weight", (hidden, ffn), "matrix")
                yield from _vector(f"{p}ffn_{part}.bias", ffn, architecture.ffn_bias)
        yield TensorSpec(f"{p}ffn_down.weight", (ffn, hidden), "matrix")
        yield from _vector(f"{p}ffn_down.bias", hidden, architecture.ffn_bias)
    if architecture.post_norms:
        yield from _norm(p + "post_ffw_norm", p + "post_ffw_norm", hidden, architecture)
    if architecture.sum_norms:
        last = layer == config.num_layers - 1  # the norm of the output
        native = "output_norm" if last else p + "layer_output_norm"
        yield from _norm(p + "layer_output_norm", native, hidden, architecture)


def _experts(config: ModelConfig, architecture: Architecture, p: str) -> Iterator[TensorSpec]:
    hidden, experts, ffn = config.hidden_size, config.num_experts, config.expert_ffn_size
    yield TensorSpec(p + "ffn_gate_inp.weight", (hidden, experts), "matrix")
    if architecture.expert_bias:
        yield TensorSpec(p + "ffn_gate_inp.bias", (experts,), "vector")
    yield from _vector(p + "exp_probs_b.bias", experts, architecture.expert_choice_bias)
    for part, columns, rows in (("gate", hidden, ffn), ("up", hidden, ffn), ("down", ffn, hidden)):
        yield TensorSpec(f"{p}ffn_{part}_exps.weight", (columns, rows, experts), "matrix")
        if architecture.expert_bias:
            yield TensorSpec(f"{p}ffn_{part}_exps.bias", (rows, experts), "vector")
    shared = config.shared_ffn_size
    if not shared:
        return
    for part, columns, rows in (
        ("gate", hidden, shared),
        ("up", hidden, shared),
        ("down", shared, hidden),
    ):
        yield TensorSpec(f"{p}ffn_{part}_shexp.weight", (columns, rows), "matrix")
    if architecture.shared_expert_gate:
        yield TensorSpec(p + "ffn_gate_inp_shexp.weight", (hidden,), "vector")


def _qk_norm(name: str, heads: int, head_dim: int, architecture: Architecture) -> list[TensorSpec]:
    size = heads * head_dim
    if architecture.qk_norm_over is QkNorm.HEAD:
        return _vector(name, head_dim, architecture.qk_norm)
    if architecture.qk_norm_over is QkNorm.WHOLE:
        bias = name.removesuffix("weight") + "bias"
        specs = _vector(name, size, architecture.qk_norm)
        has_bias = architecture.norm_bias is not Presence.NEVER
        return specs + _vector(bias, size, architecture.qk_norm if has_bias else Presence.NEVER)
    optional = architecture.qk_norm is Presence.OPTIONAL
    return [TensorSpec(name, (head_dim, heads), "vector", optional, ((name, size),))]


def _norm(
    name: str,
    native: str,
    length: int,
    architecture: Architecture,
    presence: Presence = Presence.ALWAYS,
) -> list[TensorSpec]:
    """Weights, and biases where norms have them, that the decoder calls `native`."""
    specs = _vector(f"{name}.weight", length, presence, ((f"{native}.weight", length),))
    bias = ((f"{native}.bias", length),)
    return specs + _vector(f"{name}.bias", length, architecture.norm_bias, bias)


def _vector(
    name: str, length: int, presence: Presence, parts: tuple[tuple[str, int], ...] = ()
) -> list[TensorSpec]:
    if presence is Presence.NEVER:
        return []
    optional = presence is Presence.OPTIONAL
    return [TensorSpec(name, (length,), "vector", optional=optional, parts=parts)]


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
    said = config.num_layers + config.num_drafting_layers
    if found != said:
        message = f"the model says {said} layers, its tensors {found}"
        file.metadata.fail(f"{config.architecture}.block_count", message)


def _check_unused(file: GGUFFile, config: ModelConfig, name: str) -> None:
    if _SPLIT_EXPERT.fullmatch(name):
        msg = (
            f"{file.path} keeps each expert in a tensor of its own ({name}), as files of early "
            "2024 do; convert the model again"
        )
        raise UnsupportedError(msg)
    layer = _LAYER.match(name)
    if layer is not None and int(layer["layer"]) >= config.num_layers:
        return
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
    matrix_types = [*FORMATS, *STORED_FORMATS]
    usable = [t.name for t in VECTOR_TYPES] if spec.kind == "vector" else matrix_types
    if tensor.type.name not in usable:
        what = f"{spec.kind} {spec.name} is stored as {tensor.type.name}"
        msg = f"{file.path}: {what}, which is not supported there; these are: {', '.join(usable)}"
        raise UnsupportedError(msg)
