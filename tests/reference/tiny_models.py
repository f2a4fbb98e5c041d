"""Tiny random GGUF models of every architecture, format and rope scaling, for tests.

`write_tiny_model(path, "qwen3", "Q8_0", seed=3)` writes a two-layer model; the keyword
arguments of TinyModel change its shape. The same arguments give the same bytes everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

from reference.random_weights import random_matrix, uniform
from reference.tiny_metadata import LLAMA3_FACTOR, write_metadata
from reference.tiny_traits import TRAITS, Traits
from reference.tiny_vocabularies import write_vocabulary

# llama.cpp's Q4_K_M: mostly Q4_K, Q6_K where it helps, and where a row is no multiple of 256
# the 32-weight formats that stand in for them.
MIXED = "Q4_K_M"
FALLBACK = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}

ROPE_SCALINGS = ("none", "linear", "yarn", "yarn-attn", "yarn-betas", "llama3", "llama3-keys")


@dataclass(frozen=True)
class TinyModel:
    architecture: str
    weight_format: str  # a ggml format, or "Q4_K_M" for the mixture
    seed: int = 0
    num_layers: int | None = None  # None: as many as show all that the architecture has
    dim: int | None = None  # None: 64, or 256 where the format has blocks of 256
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int | None = None  # None: dim / num_heads
    feed_forward: int | None = None  # None: 2 * dim
    vocab_size: int = 515
    context_length: int = 256
    attention_bias: bool | None = None  # None: as the architecture has it
    qk_norm: bool | None = None  # None: as the architecture has it
    tied_output: bool | None = None  # None: as the architecture has it
    num_experts: int | None = None  # None: as the architecture has them
    num_experts_used: int = 2
    epsilon: float = 1e-5  # of norms
    rope_base: float = 10000.0
    rope_scaling: str | None = None  # one of ROPE_SCALINGS; None writes no key
    vocabulary: str | None = None  # None: "qwen2" for the qwens, "wordpiece" for the berts, ...
    keys: dict[str, Any] = field(default_factory=dict)  # in place of, or beyond, the traits'
    changes: dict[str, Any] = field(default_factory=dict)  # of the architecture's traits

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
    def traits(self) -> Traits:
        """Those of the architecture with what this model has otherwise."""
        traits = replace(TRAITS[self.architecture], **self.changes)
        own: dict[str, Any] = {"keys": traits.keys | self.keys}
        for name in ("num_layers", "attention_bias", "tied_output", "num_experts"):
            if (value := getattr(self, name)) is not None:
                own[name] = value
        if self.qk_norm is not None:
            own["qk_norm"] = "head" if self.qk_norm else None
        return replace(traits, **own)

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
    write_metadata(writer, model)
    write_vocabulary(writer, model.vocabulary or _usual_vocabulary(model), model.vocab_size)
    _TensorWriter(writer, model).write()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _block_size(weight_format: str) -> int:
    return GGML_QUANT_SIZES[GGMLQuantizationType[weight_format]][0]


def _usual_vocabulary(model: TinyModel) -> str:
    if "bert" in model.architecture:
        return "wordpiece"
    return "qwen2" if model.architecture.startswith("qwen") else "llama-bpe"


class _TensorWriter:
    def __init__(self, writer: GGUFWriter, model: TinyModel) -> None:
        self._writer = writer
        self._model = model
        self._traits = model.traits

    def write(self) -> None:
        model, traits = self._model, self._traits
        dim, half = model.hidden, model.head_size // 2
        # A gain of 3 spreads the logits over +-10: a likely token stands out as in real models.
        self._matrix("token_embd", model.vocab_size, dim, gain=3.0)
        if not traits.tied_output:
            self._matrix("output", model.vocab_size, dim, gain=3.0)
        if traits.output_bias:
            self._vector("output.bias", (model.vocab_size,))
        if traits.output_norm:
            self._norm("output_norm", dim)
        if traits.text_types:
            self._vector("token_types.weight", (traits.text_types, dim), deviation=1.0)
        if traits.input_norm:
            self._norm("token_embd_norm", dim)
        if traits.position_table:
            self._vector("position_embd.weight", (model.context_length, dim), deviation=1.0)
        if model.rope_scaling == "llama3":
            self._writer.add_tensor("rope_freqs.weight", _llama3_factors(model))
        if traits.long_factors:
            for length, around in (("short", 1.5), ("long", 4.0)):
                self._vector(f"rope_factors_{length}.weight", (half,), around=around)
        for layer in range(traits.num_layers):
            for norm in (*traits.pre_norms, *traits.post_norms):
                if traits.bare_first_layer and layer == 0 and norm == "attn_norm":
                    continue
                self._norm(f"blk.{layer}.{norm}", dim)
            if traits.latent:
                self._latent_attention(f"blk.{layer}.attn")
            else:
                self._attention(f"blk.{layer}.attn")
            if traits.num_experts and layer >= traits.num_dense_layers:
                self._experts(f"blk.{layer}.ffn")
            else:
                self._feed_forward(f"blk.{layer}.ffn", model.inner, "")

    def _attention(self, name: str) -> None:
        model, traits = self._model, self._traits
        dim, q_dim = model.hidden, model.num_heads * model.head_size
        kv_dim = model.num_kv_heads * model.head_size
        parts = {"q": q_dim, "k": kv_dim, "v": kv_dim}
        if traits.fused_qkv:
            parts = {"qkv": q_dim + 2 * kv_dim}
        for part, rows in parts.items():
            self._matrix(f"{name}_{part}", rows, dim)
            if traits.attention_bias:
                self._vector(f"{name}_{part}.bias", (rows,))
        self._matrix(f"{name}_output", dim, q_dim)
        if traits.attn_output_bias:
            self._vector(f"{name}_output.bias", (dim,))
        if traits.qk_norm is not None:
            for part, heads in (("q", model.num_heads), ("k", model.num_kv_heads)):
                shape = {
                    "head": (model.head_size,),
                    "each-head": (heads, model.head_size),
                    "whole": (heads * model.head_size,),
                }[traits.qk_norm]
                self._vector(f"{name}_{part}_norm.weight", shape, around=1.0)
                if traits.norm_bias and traits.qk_norm == "whole":
                    self._vector(f"{name}_{part}_norm.bias", shape)
        if traits.sinks:
            self._vector(f"{name}_sinks.weight", (model.num_heads,), deviation=2.0)

    def _latent_attention(self, name: str) -> None:
        keys, dim, heads = self._traits.keys, self._model.hidden, self._model.num_heads
        queries = heads * keys["attention.key_length_mla"]
        size, rotary = keys["attention.kv_lora_rank"], keys["rope.dimension_count"]
        value_dim = keys["attention.value_length_mla"]
        if rank := keys["attention.q_lora_rank"]:
            self._matrix(f"{name}_q_a", rank, dim)
            self._vector(f"{name}_q_a_norm.weight", (rank,), around=1.0)
            self._matrix(f"{name}_q_b", queries, rank)
        else:
            self._matrix(f"{name}_q", queries, dim)
        self._matrix(f"{name}_kv_a_mqa", size + rotary, dim)
        self._vector(f"{name}_kv_a_norm.weight", (size,), around=1.0)
        self._matrix(f"{name}_k_b", heads, size, keys["attention.key_length_mla"] - rotary)
        self._matrix(f"{name}_v_b", heads, value_dim, size)
        self._matrix(f"{name}_output", dim, heads * value_dim)

    def _experts(self, name: str) -> None:
        model, traits = self._model, self._traits
        dim, experts = model.hidden, traits.num_experts
        source = f"{model.seed} {name.removesuffix('.ffn')}.router"
        router = uniform(source, (experts, dim), 2.0 / np.sqrt(dim))
        self._writer.add_tensor(f"{name}_gate_inp.weight", router)
        if traits.expert_bias:
            self._vector(f"{name}_gate_inp.bias", (experts,))
        if traits.choice_bias:
            self._vector(f"{name.removesuffix('ffn')}exp_probs_b.bias", (experts,))
        inner = traits.keys.get("expert_feed_forward_length", model.inner)
        for part, rows, columns in (("gate", inner, dim), ("up", inner, dim), ("down", dim, inner)):
            self._matrix(f"{name}_{part}_exps", experts, rows, columns)
            if traits.expert_bias:
                self._vector(f"{name}_{part}_exps.bias", (experts, rows))
        if traits.shared_expert is not None:
            count = traits.keys.get("expert_shared_count", 1)
            shared = traits.keys.get("expert_shared_feed_forward_length", count * inner)
            self._feed_forward(name, shared, "_shexp")
        if traits.shared_expert == "gated":
            self._vector(f"{name}_gate_inp_shexp.weight", (dim,), deviation=1.0 / np.sqrt(dim))

    def _feed_forward(self, name: str, inner: int, suffix: str) -> None:
        dim, traits = self._model.hidden, self._traits
        shapes = {"gate": (inner, dim), "up": (inner, dim), "down": (dim, inner)}
        if traits.fused_gate_up:
            shapes["up"] = (2 * inner, dim)
        if traits.fused_gate_up or not traits.gated:
            del shapes["gate"]
        for part, shape in shapes.items():
            self._matrix(f"{name}_{part}{suffix}", *shape)
            if traits.ffn_bias and part != "gate":
                self._vector(f"{name}_{part}{suffix}.bias", shape[:1])

    def _norm(self, name: str, size: int) -> None:
        self._vector(f"{name}.weight", (size,), around=1.0)
        if self._traits.norm_bias:
            self._vector(f"{name}.bias", (size,))

    def _matrix(self, name: str, *shape: int, gain: float = 1.0) -> None:
        model = self._model
        weight_format = model.format_of(name.split(".")[-1], shape[-1])
        source = f"{model.seed} {name}"
        data = random_matrix(source, shape, gain / np.sqrt(shape[-1]), weight_format)
        self._writer.add_tensor(f"{name}.weight", data, raw_dtype=weight_format)

    def _vector(
        self, name: str, shape: tuple[int, ...], *, around: float = 0.0, deviation: float = 0.2
    ) -> None:
        data = around + uniform(f"{self._model.seed} {name}", shape, deviation)
        self._writer.add_tensor(name, data.astype(np.float32))


def _llama3_factors(model: TinyModel) -> np.ndarray:
    """Llama 3.1's rule for an original context a quarter of the model's."""
    original = model.context_length // 4
    frequency = model.rope_base ** (-np.arange(0, model.head_size, 2) / model.head_size)
    turns = original * frequency / (2 * np.pi)
    smooth = np.clip((turns - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    return (1.0 / (smooth + (1.0 - smooth) / LLAMA3_FACTOR)).astype(np.float32)
