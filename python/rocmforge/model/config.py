"""The hyper-parameters of a model, read from its metadata and range-checked in one place."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass, field
from typing import Final

from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model.architecture import Architecture, LogitScale, Norm, Parallel, Presence
from rocmforge.model.architectures import find_architecture
from rocmforge.model.experts import (
    MAX_FFN,
    RoutingConfig,
    read_expert_size,
    read_num_experts,
    read_routing,
    read_shared_size,
)
from rocmforge.model.keys import Keys
from rocmforge.model.latent import LatentConfig, latent_scale, read_latent
from rocmforge.model.layers import LayerConfig, read_layers, read_local_rope
from rocmforge.model.pooling import Pooling, read_pooling
from rocmforge.model.rope import RopeConfig
from rocmforge.model.rope_keys import read_rope

# Far above every published model, low enough that no product of two overflows 64 bits.
MAX_LAYERS: Final = 4096
MAX_HIDDEN: Final = 1 << 20
MAX_HEADS: Final = 1 << 14
MAX_HEAD_DIM: Final = 1 << 14
MAX_VOCAB: Final = 1 << 23  # limit of the sampler
MAX_CONTEXT: Final = (1 << 31) - 1  # positions are int32
MAX_NAME: Final = 256  # characters

_EMBEDDING: Final = "token_embd.weight"
_POSITIONS: Final = "position_embd.weight"
_TEXT_TYPES: Final = "token_types.weight"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What the decoder needs to know beside the weights. Sizes are in elements."""

    architecture: str
    name: str  # of the model, as the file gives it; its path without one
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int  # of queries and keys
    value_dim: int  # of values
    ffn_size: int
    vocab_size: int
    context_length: int
    norm_eps: float
    attention_scale: float  # on query-key products
    rope: RopeConfig
    num_experts: int  # 0 for a dense feed-forward network
    num_experts_used: int
    expert_ffn_size: int  # of each expert; 0 without experts
    tied_output: bool  # the embedding serves as output matrix
    qkv_bias: bool
    qk_norm: bool
    shared_ffn_size: int = 0  # of the expert that all tokens go to; 0 without one
    routing: RoutingConfig = field(default_factory=RoutingConfig)  # of a model with experts
    latent: LatentConfig | None = None  # None: plain attention
    num_drafting_layers: int = 0  # behind the others, of the file; not used
    causal: bool = True  # else tokens see those after them as well, and predict nothing
    pooling: Pooling | None = None  # of embeddings; None: the file names none
    num_positions: int = 0  # with an embedding of their own; 0: told apart otherwise
    num_text_types: int = 0  # with embeddings, of which the first is used
    attention_cap: float = 0.0  # scores become cap tanh(score / cap); 0: they stay
    logit_cap: float = 0.0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0  # on what attention and the feed-forward network add
    logit_scale: float = 1.0
    parallel_residual: bool = False  # the feed-forward network reads what attention reads
    two_attn_norms: bool = False  # there is attn_norm_2
    fused_qkv: bool = False  # attn_qkv in place of attn_q, attn_k and attn_v
    fused_gate_up: bool = False  # ffn_up holds ffn_gate
    layers: tuple[LayerConfig, ...] = ()  # empty: all as LayerConfig's defaults
    local_rope: RopeConfig | None = None  # of layers whose `rope` is "local"

    @classmethod
    def from_gguf(cls, file: GGUFFile) -> ModelConfig:
        """Raises UnsupportedError for another architecture, ModelFileError for a wrong value."""
        metadata = file.metadata
        kind = metadata.string("general.type", "model")
        if kind != "model":
            msg = f"{file.path} holds a GGUF file of type {reprlib.repr(kind)}, not a model"
            raise UnsupportedError(msg)
        architecture = find_architecture(metadata.string("general.architecture"))
        return _Reader(file, architecture).read()


class _Reader:
    def __init__(self, file: GGUFFile, architecture: Architecture) -> None:
        self._file = file
        self._metadata = file.metadata
        self._architecture = architecture
        self._keys = Keys(file, architecture)

    def read(self) -> ModelConfig:
        keys, architecture, tensors = self._keys, self._architecture, self._file.tensors
        vocab_size = self._vocab_size()
        hidden_size = keys.uint("embedding_length", maximum=MAX_HIDDEN)
        num_drafting_layers = self._num_drafting_layers()
        num_layers = keys.uint("block_count", minimum=num_drafting_layers + 1, maximum=MAX_LAYERS)
        num_layers -= num_drafting_layers
        num_heads = keys.uniform("attention.head_count", maximum=MAX_HEADS)
        num_kv_heads = keys.uniform("attention.head_count_kv", num_heads, maximum=num_heads)
        if num_heads % num_kv_heads:
            message = f"{num_heads} heads cannot share {num_kv_heads} key-value heads evenly"
            keys.fail("attention.head_count_kv", message)
        head_dim = self._head_dim(hidden_size, num_heads)
        value_dim = keys.uint("attention.value_length", head_dim, maximum=MAX_HEAD_DIM)
        num_experts, num_experts_used = read_num_experts(keys, architecture)
        ffn_size = keys.uniform("feed_forward_length", maximum=MAX_FFN)
        context_length = keys.uint("context_length", maximum=MAX_CONTEXT)
        rope = read_rope(self._file, keys, architecture, head_dim, context_length)
        latent = read_latent(keys, architecture, num_kv_heads, head_dim, value_dim)
        expert_size = read_expert_size(keys, architecture, ffn_size) if num_experts else 0
        layers = read_layers(self._metadata, keys, architecture, num_layers)
        wide = num_layers == architecture.wide_scale_layers
        return ModelConfig(
            architecture=architecture.name,
            name=self._name(),
            num_layers=num_layers,
            hidden_size=hidden_size,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            value_dim=value_dim,
            ffn_size=ffn_size,
            vocab_size=vocab_size,
            context_length=context_length,
            norm_eps=self._norm_eps(),
            attention_scale=(
                self._multiplier(
                    "attention.scale",
                    1 / math.sqrt(hidden_size // num_heads if wide else head_dim),
                )
                if latent is None
                else latent_scale(latent, head_dim - latent.size, rope)
            ),
            rope=rope,
            num_experts=num_experts,
            num_experts_used=num_experts_used,
            expert_ffn_size=expert_size,
            tied_output="output.weight" not in tensors,
            qkv_bias="blk.0.attn_q.bias" in tensors or "blk.0.attn_qkv.bias" in tensors,
            qk_norm="blk.0.attn_q_norm.weight" in tensors,
            shared_ffn_size=(
                read_shared_size(keys, architecture, ffn_size, expert_size) if num_experts else 0
            ),
            routing=(
                read_routing(self._metadata, keys, architecture, num_layers)
                if num_experts
                else RoutingConfig()
            ),
            latent=latent,
            num_drafting_layers=num_drafting_layers,
            causal=self._causal(),
            pooling=read_pooling(keys),
            num_positions=self._num_positions(context_length),
            num_text_types=self._num_text_types(),
            attention_cap=self._cap("attn_logit_softcapping", architecture.attention_cap),
            logit_cap=self._cap("final_logit_softcapping", architecture.logit_cap),
            embedding_scale=(
                math.sqrt(hidden_size)
                if architecture.embedding_scale_by_width
                else self._multiplier("embedding_scale", 1.0)
            ),
            residual_scale=self._multiplier("residual_scale", 1.0),
            logit_scale=self._logit_scale(),
            parallel_residual=self._parallel_residual(),
            two_attn_norms=architecture.attn_norm_2 and "blk.0.attn_norm_2.weight" in tensors,
            fused_qkv="blk.0.attn_qkv.weight" in tensors,
            fused_gate_up=self._fused_gate_up(),
            layers=layers,
            local_rope=read_local_rope(keys, architecture, layers, rope),
        )

    def _num_drafting_layers(self) -> int:
        if not self._architecture.predicts_next:
            return 0
        return self._keys.uint("nextn_predict_layers", 0, minimum=0, maximum=MAX_LAYERS - 1)

    def _norm_eps(self) -> float:
        layer = self._architecture.norm is Norm.LAYER and not self._architecture.rms_epsilon
        return self._keys.float(
            "attention.layer_norm_epsilon" if layer else "attention.layer_norm_rms_epsilon",
            maximum=1.0,
        )

    def _multiplier(self, name: str, default: float) -> float:
        return self._keys.float(name, default) if self._architecture.multipliers else default

    def _logit_scale(self) -> float:
        kind = self._architecture.logit_scale
        if kind is LogitScale.ABSENT:
            return 1.0
        scale = self._keys.float("logit_scale")
        return scale if kind is LogitScale.FACTOR else 1 / scale

    def _cap(self, name: str, default: float) -> float:
        return self._keys.float(name, default) if default else 0.0

    def _parallel_residual(self) -> bool:
        kind = self._architecture.parallel
        if kind is Parallel.WITHOUT_FFN_NORM:
            return "blk.0.ffn_norm.weight" not in self._file.tensors
        if kind is Parallel.BY_KEY:
            return self._metadata.bool(self._keys.key("use_parallel_residual"))
        return kind is Parallel.ALWAYS

    def _causal(self) -> bool:
        if self._architecture.encoder:  # whatever the key says, as in llama.cpp
            return False
        return self._metadata.bool(self._keys.key("attention.causal"), True)

    def _fused_gate_up(self) -> bool:
        kind = self._architecture.fused_gate_up
        if kind is Presence.OPTIONAL:
            return "blk.0.ffn_gate.weight" not in self._file.tensors
        return kind is Presence.ALWAYS

    def _num_positions(self, context_length: int) -> int:
        if self._architecture.rotates or self._architecture.alibi:
            return 0
        rows = self._rows(_POSITIONS)
        if not context_length <= rows <= MAX_CONTEXT:
            msg = f"{self._file.path}: no position embeddings for {context_length} positions"
            raise ModelFileError(msg, key=_POSITIONS)
        return rows

    def _num_text_types(self) -> int:
        return self._rows(_TEXT_TYPES) if self._architecture.text_types else 0

    def _rows(self, tensor: str) -> int:
        table = self._file.tensors.get(tensor)
        if table is None:
            return 0
        return table.shape[1] if len(table.shape) > 1 else 1

    def _name(self) -> str:
        """Fit for a terminal: the file may be hostile."""
        name = str(self._metadata.get("general.name") or self._file.path.stem)[:MAX_NAME]
        return "".join(c if c.isprintable() else "\ufffd" for c in name)

    def _vocab_size(self) -> int:
        """Rows of the embedding; the key and the list of tokens have to agree where present."""
        if not self._file.tensors:
            msg = f"{self._file.path} holds no tensors: a vocabulary only, not a model"
            raise ModelFileError(msg)
        embedding = self._file.tensors.get(_EMBEDDING)
        if embedding is None:
            msg = f"{self._file.path}: the embedding is missing"
            raise ModelFileError(msg, key=_EMBEDDING)
        rows = self._rows(_EMBEDDING)
        if rows > MAX_VOCAB:
            msg = f"{self._file.path}: a vocabulary of {rows}; the limit is {MAX_VOCAB}"
            raise ModelFileError(msg, key=_EMBEDDING)
        if self._keys.uint("vocab_size", rows, maximum=MAX_VOCAB) != rows:
            self._keys.fail("vocab_size", f"the embedding has {rows} rows")
        num_tokens = self._metadata.count("tokenizer.ggml.tokens")
        if num_tokens is not None and num_tokens != rows:
            message = f"the vocabulary has {num_tokens} tokens, the embedding {rows} rows"
            self._metadata.fail("tokenizer.ggml.tokens", message)
        return rows

    def _head_dim(self, hidden_size: int, num_heads: int) -> int:
        key = "attention.key_length"
        if key in self._keys:
            return self._keys.uint(key, maximum=MAX_HEAD_DIM)
        if hidden_size % num_heads:
            message = f"{num_heads} heads do not divide a hidden size of {hidden_size}"
            self._keys.fail("attention.head_count", message)
        return hidden_size // num_heads
