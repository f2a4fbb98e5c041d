"""A decoder-only transformer over a GGUF file, in float64 NumPy: the product's oracle.

Covers `llama` (with Mixtral's experts and Llama 3's rope factors), `qwen2` and `qwen3`.
What a file does not hold (a bias, a q/k norm, an output matrix) is a step that is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

from reference.blocks import decode
from reference.rope import rope_from_metadata

# Pairs that turn together: neighbours in llama's files (converted so), halves in the others.
INTERLEAVED_ROPE = {"llama": True, "qwen2": False, "qwen3": False}


@dataclass(frozen=True)
class Output:
    logits: np.ndarray  # (len, vocab)
    hidden: np.ndarray  # (len, dim), after the final norm


class ReferenceDecoder:
    """Runs tokens through the model, remembering keys and values: one sequence, no batch."""

    def __init__(self, path: str | Path) -> None:
        reader = GGUFReader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        architecture = metadata["general.architecture"]
        prefix = architecture + "."
        keys: dict[str, Any] = {
            name.removeprefix(prefix): value
            for name, value in metadata.items()
            if name.startswith(prefix)
        }
        self.tensors = {
            tensor.name: decode(tensor.data, tensor.tensor_type) for tensor in reader.tensors
        }
        self.tensors.setdefault("output.weight", self.tensors["token_embd.weight"])

        self.context_length = int(keys["context_length"])
        self.num_layers = int(keys["block_count"])
        self.num_heads = int(keys["attention.head_count"])
        self.num_kv_heads = int(keys.get("attention.head_count_kv", self.num_heads))
        self.head_dim = int(
            keys.get("attention.key_length", keys["embedding_length"] // self.num_heads)
        )
        self.epsilon = float(keys["attention.layer_norm_rms_epsilon"])
        self.num_experts_used = int(keys.get("expert_used_count", 0))
        self.rope = rope_from_metadata(
            keys,
            dim=int(keys.get("rope.dimension_count", self.head_dim)),
            interleaved=INTERLEAVED_ROPE[architecture],
            context_length=self.context_length,
            factors=self.tensors.get("rope_freqs.weight"),
        )
        self.reset()

    def reset(self) -> None:
        """Forgets the sequence."""
        empty = np.zeros((0, self.num_kv_heads, self.head_dim))
        self.keys = [empty] * self.num_layers
        self.values = [empty] * self.num_layers

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Teacher-forced logits (len, vocab) of a fresh sequence."""
        self.reset()
        return self.extend(token_ids).logits

    def greedy(self, prompt_ids: Sequence[int], num_tokens: int) -> list[int]:
        """The `num_tokens` most likely continuations one after the other, lowest id on ties."""
        self.reset()
        ids: list[int] = []
        pending = list(prompt_ids)
        while len(ids) < num_tokens:
            ids.append(int(self.extend(pending).logits[-1].argmax()))
            pending = ids[-1:]
        return ids

    def extend(self, token_ids: Sequence[int]) -> Output:
        """Appends tokens to the sequence and returns what the model says after each."""
        x = self.tensors["token_embd.weight"][np.asarray(token_ids, dtype=np.int64)]
        for layer in range(self.num_layers):
            x = x + self._attention(layer, self._norm(x, f"blk.{layer}.attn_norm.weight"))
            x = x + self._feed_forward(layer, self._norm(x, f"blk.{layer}.ffn_norm.weight"))
        hidden = self._norm(x, "output_norm.weight")
        return Output(self._linear(hidden, "output"), hidden)

    def _attention(self, layer: int, x: np.ndarray) -> np.ndarray:
        name = f"blk.{layer}.attn"
        length, past = len(x), len(self.keys[layer])
        positions = np.arange(past, past + length)
        q = self._linear(x, f"{name}_q").reshape(length, self.num_heads, self.head_dim)
        k = self._linear(x, f"{name}_k").reshape(length, self.num_kv_heads, self.head_dim)
        v = self._linear(x, f"{name}_v").reshape(length, self.num_kv_heads, self.head_dim)
        if f"{name}_q_norm.weight" in self.tensors:
            q = self._norm(q, f"{name}_q_norm.weight")
            k = self._norm(k, f"{name}_k_norm.weight")
        q = self.rope.rotate(q, positions)
        k = self.rope.rotate(k, positions)
        self.keys[layer] = k = np.concatenate([self.keys[layer], k])
        self.values[layer] = v = np.concatenate([self.values[layer], v])

        # Query heads g * group .. (g + 1) * group - 1 share key/value head g.
        group = self.num_heads // self.num_kv_heads
        q = q.reshape(length, self.num_kv_heads, group, self.head_dim)
        scores = np.einsum("ighd,jgd->ghij", q, k) / np.sqrt(self.head_dim)
        scores[..., np.arange(past + length) > positions[:, None]] = -np.inf
        mixed = np.einsum("ghij,jgd->ighd", _softmax(scores), v)
        return self._linear(mixed.reshape(length, -1), f"{name}_output")

    def _feed_forward(self, layer: int, x: np.ndarray) -> np.ndarray:
        name = f"blk.{layer}.ffn"
        if f"{name}_gate_inp.weight" in self.tensors:
            return self._experts(name, x)
        gate, up = self._linear(x, f"{name}_gate"), self._linear(x, f"{name}_up")
        return self._linear(_silu(gate) * up, f"{name}_down")

    def _experts(self, name: str, x: np.ndarray) -> np.ndarray:
        """The best experts of each token, weighted by their share of the router's softmax."""
        gate, up, down = (self.tensors[f"{name}_{w}_exps.weight"] for w in ("gate", "up", "down"))
        probabilities = _softmax(self._linear(x, f"{name}_gate_inp"))
        result = np.zeros_like(x)
        for row, chances in enumerate(probabilities):
            chosen = np.argsort(-chances, kind="stable")[: self.num_experts_used]
            for expert in chosen:
                inner = _silu(gate[expert] @ x[row]) * (up[expert] @ x[row])
                result[row] += chances[expert] / chances[chosen].sum() * (down[expert] @ inner)
        return result

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors.get(f"{name}.bias", 0.0)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + self.epsilon) * self.tensors[name]


def kl_divergences(logits: np.ndarray, other: np.ndarray) -> np.ndarray:
    """KL(softmax(logits) || softmax(other)) in nats of each row (len) of (len, vocab)."""
    p, q = _log_softmax(logits), _log_softmax(other.astype(np.float64))
    return (np.exp(p) * (p - q)).sum(axis=-1)


def negative_log_likelihoods(logits: np.ndarray, targets: Sequence[int]) -> np.ndarray:
    """-ln p of each target (len) under its row of logits (len, vocab)."""
    return -_log_softmax(logits)[np.arange(len(logits)), np.asarray(targets)]


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))
