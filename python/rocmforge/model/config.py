"""The hyper-parameters of a model, read from its metadata and range-checked in one place."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass
from typing import Final, NoReturn

from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model.architectures import Architecture, find_architecture
from rocmforge.model.rope import RopeConfig, RopeScaling

# Far above every published model, low enough that no product of two overflows 64 bits.
MAX_LAYERS: Final = 4096
MAX_HIDDEN: Final = 1 << 20
MAX_FFN: Final = 1 << 22
MAX_HEADS: Final = 1 << 14
MAX_HEAD_DIM: Final = 1 << 14
MAX_VOCAB: Final = 1 << 23  # limit of the sampler
MAX_CONTEXT: Final = (1 << 31) - 1  # positions are int32
MAX_EXPERTS: Final = 1 << 14
MAX_NAME: Final = 256  # characters

_EMBEDDING: Final = "token_embd.weight"
_MIN_POSITIVE: Final = 1e-30  # well inside the normal range of float32


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

    def read(self) -> ModelConfig:
        vocab_size = self._vocab_size()
        hidden_size = self._uint("embedding_length", maximum=MAX_HIDDEN)
        num_layers = self._uint("block_count", maximum=MAX_LAYERS)
        num_heads = self._uniform("attention.head_count", maximum=MAX_HEADS)
        num_kv_heads = self._uniform("attention.head_count_kv", num_heads, maximum=num_heads)
        if num_heads % num_kv_heads:
            message = f"{num_heads} heads cannot share {num_kv_heads} key-value heads evenly"
            self._fail("attention.head_count_kv", message)
        head_dim = self._head_dim(hidden_size, num_heads)
        value_dim = self._uint("attention.value_length", head_dim, maximum=MAX_HEAD_DIM)
        num_experts, num_experts_used = self._experts()
        ffn_size = self._uniform("feed_forward_length", maximum=MAX_FFN)
        expert_ffn_size = self._uint("expert_feed_forward_length", ffn_size, maximum=MAX_FFN)
        if not self._metadata.bool(self._key("attention.causal"), True):
            msg = f"{self._file.path} attends in both directions; only causal models are supported"
            raise UnsupportedError(msg)
        context_length = self._uint("context_length", maximum=MAX_CONTEXT)
        return ModelConfig(
            architecture=self._architecture.name,
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
            norm_eps=self._float("attention.layer_norm_rms_epsilon", maximum=1.0),
            attention_scale=1 / math.sqrt(head_dim),
            rope=self._rope(head_dim, context_length),
            num_experts=num_experts,
            num_experts_used=num_experts_used,
            expert_ffn_size=expert_ffn_size if num_experts else 0,
            tied_output="output.weight" not in self._file.tensors,
            qkv_bias="blk.0.attn_q.bias" in self._file.tensors,
            qk_norm="blk.0.attn_q_norm.weight" in self._file.tensors,
        )

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
        rows = embedding.shape[1] if len(embedding.shape) > 1 else 1
        if rows > MAX_VOCAB:
            msg = f"{self._file.path}: a vocabulary of {rows}; the limit is {MAX_VOCAB}"
            raise ModelFileError(msg, key=_EMBEDDING)
        if self._uint("vocab_size", rows, maximum=MAX_VOCAB) != rows:
            self._fail("vocab_size", f"the embedding has {rows} rows")
        num_tokens = self._metadata.count("tokenizer.ggml.tokens")
        if num_tokens is not None and num_tokens != rows:
            message = f"the vocabulary has {num_tokens} tokens, the embedding {rows} rows"
            self._metadata.fail("tokenizer.ggml.tokens", message)
        return rows

    def _head_dim(self, hidden_size: int, num_heads: int) -> int:
        key = "attention.key_length"
        if self._key(key) in self._metadata:
            return self._uint(key, maximum=MAX_HEAD_DIM)
        if hidden_size % num_heads:
            message = f"{num_heads} heads do not divide a hidden size of {hidden_size}"
            self._fail("attention.head_count", message)
        return hidden_size // num_heads

    def _experts(self) -> tuple[int, int]:
        num_experts = self._uint("expert_count", 0, minimum=0, maximum=MAX_EXPERTS)
        if num_experts == 0:
            return 0, 0
        if not self._architecture.experts:
            msg = f"experts are not supported in architecture {self._architecture.name!r}"
            raise UnsupportedError(msg)
        if self._float("expert_weights_scale", 1.0) != 1:
            msg = f"{self._key('expert_weights_scale')} other than 1 is not supported"
            raise UnsupportedError(msg)
        return num_experts, self._uint("expert_used_count", maximum=num_experts)

    def _rope(self, head_dim: int, context_length: int) -> RopeConfig:
        rotary_dim = self._uint("rope.dimension_count", head_dim, maximum=head_dim)
        if rotary_dim % 2:
            self._fail("rope.dimension_count", f"{rotary_dim} dimensions are not pairs")
        base = self._float("rope.freq_base", 10000.0)
        if base <= 1:
            self._fail("rope.freq_base", f"{base} is not above 1")
        # llama.cpp: without a type, scaling is linear; without a factor, there is none.
        name = self._metadata.string(self._key("rope.scaling.type"), "linear")
        if name not in {scaling.value for scaling in RopeScaling}:
            known = ", ".join(scaling.value for scaling in RopeScaling)
            msg = f"rope scaling {reprlib.repr(name)} is not supported; these kinds are: {known}"
            raise UnsupportedError(msg)
        old_factor = self._float("rope.scale_linear", 1.0)
        factor = self._float("rope.scaling.factor", old_factor)
        low = self._float("rope.scaling.low_freq_factor", 1.0)
        high = self._float("rope.scaling.high_freq_factor", 4.0)
        if high <= low:
            self._fail("rope.scaling.high_freq_factor", f"{high} is not above {low}")
        original = self._uint(
            "rope.scaling.original_context_length", context_length, maximum=MAX_CONTEXT
        )
        scaling = RopeScaling(name)
        if factor == 1 and scaling is RopeScaling.LINEAR:
            scaling = RopeScaling.NONE
        return RopeConfig(
            rotary_dim=rotary_dim,
            interleaved=self._architecture.rope_interleaved,
            base=base,
            scaling=scaling,
            factor=factor,
            original_context_length=original,
            attn_factor=self._float("rope.scaling.attn_factor", 1.0),
            beta_fast=self._float("rope.scaling.yarn_beta_fast", 32.0),
            beta_slow=self._float("rope.scaling.yarn_beta_slow", 1.0),
            low_freq_factor=low,
            high_freq_factor=high,
            has_factors="rope_freqs.weight" in self._file.tensors,
        )

    def _key(self, name: str) -> str:
        return f"{self._architecture.name}.{name}"

    def _uint(
        self, name: str, default: int | None = None, *, minimum: int = 1, maximum: int
    ) -> int:
        key = self._key(name)
        if default is not None and key not in self._metadata:
            return default
        return self._metadata.uint(key, minimum=minimum, maximum=maximum)

    def _uniform(self, name: str, default: int | None = None, *, maximum: int) -> int:
        """A number that may be given once for each layer, if it is the same for all."""
        key = self._key(name)
        if not self._metadata.is_array(key):
            return self._uint(name, default, maximum=maximum)
        values = self._metadata.ints(key, minimum=1, maximum=maximum)
        if values.size == 0:
            self._metadata.fail(key, "the list is empty")
        if (values != values[0]).any():
            msg = f"{key} differs between layers, which is not supported"
            raise UnsupportedError(msg)
        return int(values[0])

    def _float(self, name: str, default: float | None = None, *, maximum: float = 1e30) -> float:
        key = self._key(name)
        if default is not None and key not in self._metadata:
            return default
        return self._metadata.float(key, minimum=_MIN_POSITIVE, maximum=maximum)

    def _fail(self, name: str, message: str) -> NoReturn:
        self._metadata.fail(self._key(name), message)
