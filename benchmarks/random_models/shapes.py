"""Shapes of real models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    architecture: str
    num_layers: int
    hidden: int
    ffn: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    num_special_tokens: int
    context_length: int
    rope_base: float
    pre_tokenizer: str
    norm_eps: float = 1e-5
    qkv_bias: bool = False
    llama3_rope_factor: float | None = None  # frequencies stretched as for Llama 3.1 and 3.2

    @property
    def head_dim(self) -> int:
        return self.hidden // self.num_heads


SHAPES = {
    "llama-3.2-1b": Shape(
        architecture="llama",
        num_layers=16,
        hidden=2048,
        ffn=8192,
        num_heads=32,
        num_kv_heads=8,
        vocab_size=128256,
        num_special_tokens=256,
        context_length=131072,
        rope_base=500000.0,
        pre_tokenizer="llama-bpe",
        llama3_rope_factor=32.0,
    ),
    "llama-3.1-8b": Shape(
        architecture="llama",
        num_layers=32,
        hidden=4096,
        ffn=14336,
        num_heads=32,
        num_kv_heads=8,
        vocab_size=128256,
        num_special_tokens=256,
        context_length=131072,
        rope_base=500000.0,
        pre_tokenizer="llama-bpe",
        llama3_rope_factor=8.0,
    ),
    "qwen2.5-0.5b": Shape(
        architecture="qwen2",
        num_layers=24,
        hidden=896,
        ffn=4864,
        num_heads=14,
        num_kv_heads=2,
        vocab_size=151936,
        num_special_tokens=293,
        context_length=32768,
        rope_base=1000000.0,
        pre_tokenizer="qwen2",
        norm_eps=1e-6,
        qkv_bias=True,
    ),
}
