"""Tiny random GGUF models of every architecture, format and rope scaling, for tests.

`write_tiny_model(path, "qwen3", "Q8_0", seed=3)` writes a two-layer model; the keyword
arguments of TinyModel change its shape. The same arguments give the same bytes everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

from reference.random_weights import random_matrix, uniform
from reference.tiny_vocabularies import write_vocabulary

# llama.cpp's Q4_K_M: mostly Q4_K, Q6_K where it helps, and where a row is no multiple of 256
# the 32-weight formats that stand in for them.
MIXED = "Q4_K_M"
FALLBACK = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}

LLAMA3_FACTOR = 8.0
ROPE_SCALINGS = ("none", "linear", "yarn", "yarn-attn", "yarn-betas", "llama3", "llama3-keys")


@dataclass(frozen=True)
class TinyModel:
    architecture: str
    weight_format: str  # a ggml format, or "Q4_K_M" for the mixture
    seed: int = 0
    num_layers: int = 2
    dim: int | None = None  # None: 64, or 256 where the format has blocks of 256
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int | None = None  # None: dim / num_heads
    feed_forward: int | None = None  # None: 2 * dim
    vocab_size: int = 515
    context_length: int = 256
    attention_bias: bool | None = None  # None: as the architecture has it
    qk_norm: bool | None = None  # None: as the architecture has it
    tied_output: bool = False
    num_experts: int = 0
    num_experts_used: int = 2
    rope_base: float = 10000.0
    rope_scaling: str | None = None  # one of ROPE_SCALINGS; None writes no key
    vocabulary: str | None = None  # None: "qwen2" for the qwens, else "llama-bpe"

    @property
    def hidden(self) -> int:
        if self.dim is not None:
            return self.dim
        wide = self.weight_format == MIXED or _block_size(self.weight_format) == 256
        return 256 if wide else 64

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden // self.num_heads

    @property
    def inner(self) -> int:
        return self.feed_forward or 2 * self.hidden

    @property
    def has_attention_bias(self) -> bool:
        return self.architecture == "qwen2" if self.attention_bias is None else self.attention_bias

    @property
    def has_qk_norm(self) -> bool:
        return self.architecture == "qwen3" if self.qk_norm is None else self.qk_norm

    def format_of(self, name: str, row: int) -> GGMLQuantizationType:
        chosen = self.weight_format
        if chosen == MIXED:
            best = name.endswith(("attn_v", "ffn_down")) or name in ("token_embd", "output")
            chosen = "Q6_K" if best else "Q4_K"
        if row % _block_size(chosen):
            chosen = FALLBACK.get(chosen, "F16")
        return GGMLQuantizationType[chosen]


def write_tiny_model(
    path: Path, architecture: str, weight_format: str, *, seed: int = 0, **knobs: Any
) -> Path:
    """Writes the model that TinyModel describes and returns the path."""
    model = TinyModel(architecture, weight_format, seed, **knobs)
    writer = GGUFWriter(path, architecture)
    _write_metadata(writer, model)
    write_vocabulary(writer, model.vocabulary or _usual_vocabulary(model), model.vocab_size)
    _write_tensors(writer, model)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _block_size(weight_format: str) -> int:
    return GGML_QUANT_SIZES[GGMLQuantizationType[weight_format]][0]


def _usual_vocabulary(model: TinyModel) -> str:
    return "qwen2" if model.architecture.startswith("qwen") else "llama-bpe"


def _write_metadata(writer: GGUFWriter, model: TinyModel) -> None:
    writer.add_name(f"tiny {model.architecture} {model.weight_format}")
    writer.add_context_length(model.context_length)
    writer.add_block_count(model.num_layers)
    writer.add_embedding_length(model.hidden)
    writer.add_feed_forward_length(model.inner)
    writer.add_head_count(model.num_heads)
    writer.add_head_count_kv(model.num_kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    if model.head_dim is not None:
        writer.add_key_length(model.head_size)
        writer.add_value_length(model.head_size)
    writer.add_rope_dimension_count(model.head_size)
    writer.add_rope_freq_base(model.rope_base)
    if model.num_experts:
        writer.add_expert_count(model.num_experts)
        writer.add_expert_used_count(model.num_experts_used)
    if model.rope_scaling not in (None, "llama3"):
        _write_rope_scaling(writer, model, model.rope_scaling)


def _write_rope_scaling(writer: GGUFWriter, model: TinyModel, scaling: str) -> None:
    kind = scaling.partition("-")[0]
    prefix = f"{model.architecture}.rope.scaling"
    writer.add_string(f"{prefix}.type", kind)
    writer.add_rope_scaling_factor(LLAMA3_FACTOR if kind == "llama3" else 4.0)
    writer.add_rope_scaling_orig_ctx_len(model.context_length // 4)
    if scaling == "yarn-attn":
        writer.add_rope_scaling_attn_factors(0.75)
    if scaling == "yarn-betas":
        writer.add_float32(f"{prefix}.yarn_beta_fast", 24.0)
        writer.add_float32(f"{prefix}.yarn_beta_slow", 2.0)


def _write_tensors(writer: GGUFWriter, model: TinyModel) -> None:
    dim, q_dim = model.hidden, model.num_heads * model.head_size
    kv_dim = model.num_kv_heads * model.head_size
    experts = (model.num_experts,) if model.num_experts else ()

    def matrix(name: str, *shape: int, gain: float = 1.0) -> None:
        weight_format = model.format_of(name.split(".")[-1], shape[-1])
        data = random_matrix(
            f"{model.seed} {name}", shape, gain / np.sqrt(shape[-1]), weight_format
        )
        writer.add_tensor(f"{name}.weight", data, raw_dtype=weight_format)

    def vector(name: str, size: int, *, around: float, deviation: float = 0.2) -> None:
        writer.add_tensor(name, around + uniform(f"{model.seed} {name}", (size,), deviation))

    # A gain of 3 spreads the logits over +-10: a likely token stands out as in real models.
    matrix("token_embd", model.vocab_size, dim, gain=3.0)
    if not model.tied_output:
        matrix("output", model.vocab_size, dim, gain=3.0)
    vector("output_norm.weight", dim, around=1.0)
    if model.rope_scaling == "llama3":
        writer.add_tensor("rope_freqs.weight", _llama3_factors(model))
    for layer in range(model.num_layers):
        name = f"blk.{layer}"
        vector(f"{name}.attn_norm.weight", dim, around=1.0)
        matrix(f"{name}.attn_q", q_dim, dim)
        matrix(f"{name}.attn_k", kv_dim, dim)
        matrix(f"{name}.attn_v", kv_dim, dim)
        matrix(f"{name}.attn_output", dim, q_dim)
        if model.has_attention_bias:
            for part, size in (("q", q_dim), ("k", kv_dim), ("v", kv_dim)):
                vector(f"{name}.attn_{part}.bias", size, around=0.0)
        if model.has_qk_norm:
            vector(f"{name}.attn_q_norm.weight", model.head_size, around=1.0)
            vector(f"{name}.attn_k_norm.weight", model.head_size, around=1.0)
        vector(f"{name}.ffn_norm.weight", dim, around=1.0)
        if experts:
            router = uniform(f"{model.seed} {name}.router", (*experts, dim), 2.0 / np.sqrt(dim))
            writer.add_tensor(f"{name}.ffn_gate_inp.weight", router)
        suffix = "_exps" if experts else ""
        matrix(f"{name}.ffn_gate{suffix}", *experts, model.inner, dim)
        matrix(f"{name}.ffn_up{suffix}", *experts, model.inner, dim)
        matrix(f"{name}.ffn_down{suffix}", *experts, dim, model.inner)


def _llama3_factors(model: TinyModel) -> np.ndarray:
    """Llama 3.1's rule for an original context a quarter of the model's."""
    original = model.context_length // 4
    frequency = model.rope_base ** (-np.arange(0, model.head_size, 2) / model.head_size)
    turns = original * frequency / (2 * np.pi)
    smooth = np.clip((turns - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    return (1.0 / (smooth + (1.0 - smooth) / LLAMA3_FACTOR)).astype(np.float32)
