"""A decoder-only transformer over a GGUF file, in float64 NumPy: the product's oracle.

What a file does not hold (a bias, a norm, an output matrix) is a step that is absent; what the
architecture's name alone implies is in facts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

from reference.facts import FACTS, windows
from reference.feed_forward import FeedForward, softmax
from reference.latent import LatentAttention
from reference.rope import Rope, rope_from_metadata
from reference.weights import Weights


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
        self.facts = FACTS[architecture]
        rms_epsilon = keys.get("attention.layer_norm_rms_epsilon")
        epsilon = float(keys.get("attention.layer_norm_epsilon", rms_epsilon))
        self.weights = Weights(reader, layer_norm=self.facts.layer_norm, epsilon=epsilon)
        self.tensors = self.weights.tensors
        self.feed_forward = FeedForward(self.weights, self.facts, keys)

        self.context_length = int(keys["context_length"])
        self.num_layers = int(keys["block_count"])
        self.num_heads = int(keys["attention.head_count"])
        self.num_kv_heads = int(keys.get("attention.head_count_kv", self.num_heads))
        width = int(keys["embedding_length"])
        self.head_dim = int(keys.get("attention.key_length", width // self.num_heads))
        wide = self.num_layers == self.facts.wide_scale_layers
        usual_scale = (width // self.num_heads if wide else self.head_dim) ** -0.5
        self.attention_scale = float(keys.get("attention.scale", usual_scale))
        self.embedding_scale = float(keys.get("embedding_scale", 1.0))
        if self.facts.scaled_embedding:
            self.embedding_scale = width**0.5
        self.residual_scale = float(keys.get("residual_scale", 1.0))
        logit_scale = float(keys.get("logit_scale", 1.0))
        self.logit_scale = 1 / logit_scale if self.facts.inverse_logit_scale else logit_scale
        self.attention_cap = keys.get("attn_logit_softcapping", self.facts.attention_cap)
        self.logit_cap = keys.get("final_logit_softcapping", self.facts.logit_cap)
        self.rotates = bool(keys.get("rope.scaling.finetuned", True))
        self.parallel_norms = self.facts.parallel_key and bool(keys["use_parallel_residual"])
        self.windows = windows(self.facts, keys, self.num_layers)
        self.is_causal = not self.facts.encoder and bool(keys.get("attention.causal", True))
        self.rope, self.local_rope = self._ropes(keys)
        self.value_dim = self.head_dim
        self.latent = None
        if "attention.kv_lora_rank" in keys:
            self.latent = LatentAttention(self.weights, keys, self.rope, self.num_heads)
            self.num_kv_heads, self.head_dim = self.num_heads, self.latent.head_dim
            self.value_dim, self.attention_scale = self.latent.value_dim, self.latent.scale
        self.reset()

    def _ropes(self, keys: dict[str, Any]) -> tuple[Rope, Rope]:
        """Of layers that see everything and of those that do not."""
        original = int(keys.get("rope.scaling.original_context_length", self.context_length))
        longer = self.context_length > original
        factors = self.tensors.get(f"rope_factors_{'long' if longer else 'short'}.weight")

        def rope(keys: dict[str, Any]) -> Rope:
            return rope_from_metadata(
                keys,
                dim=int(keys.get("rope.dimension_count", self.head_dim)),
                interleaved=self.facts.interleaved,
                context_length=self.context_length,
                factors=self.tensors.get("rope_freqs.weight", factors),
            )

        base = keys.get("rope.freq_base_swa", self.facts.local_base)
        local = dict(keys) if base is None else {**keys, "rope.freq_base": base}
        if self.facts.plain_local_rope:
            local = {k: v for k, v in local.items() if not k.startswith("rope.scal")}
        return rope(keys), rope(local)

    def reset(self) -> None:
        """Forgets the sequence."""
        self.keys = [np.zeros((0, self.num_kv_heads, self.head_dim))] * self.num_layers
        self.values = [np.zeros((0, self.num_kv_heads, self.value_dim))] * self.num_layers

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
        past = len(self.keys[0])
        x = self.tensors["token_embd.weight"][np.asarray(token_ids, dtype=np.int64)]
        x = x * self.embedding_scale
        if "position_embd" in self.weights:
            x = x + self.weights["position_embd"][past : past + len(x)]
        if "token_types" in self.weights:
            x = x + self.weights["token_types"][0]
        x = self.weights.norm(x, "token_embd_norm")
        for layer in range(self.num_layers):
            x = self._layer(layer, x)
        hidden = self.weights.norm(x, "output_norm")
        logits = self.weights.linear(hidden, "output") * self.logit_scale
        return Output(_capped(logits, self.logit_cap), hidden)

    def _layer(self, layer: int, x: np.ndarray) -> np.ndarray:
        name = f"blk.{layer}"
        norm = self.weights.norm
        if f"{name}.layer_output_norm" in self.weights:
            return self._layer_of_normed_sums(layer, x)
        normed = norm(x, f"{name}.attn_norm")
        # Falcon's larger models have a norm of their own for attention.
        second = f"{name}.attn_norm_2" in self.weights
        attended = self._attention(layer, norm(x, f"{name}.attn_norm_2") if second else normed)
        ffn_norm = f"{name}.{self.facts.ffn_norm}"
        if self.facts.ffn_norm == "ffn_norm":
            attended = norm(attended, f"{name}.post_attention_norm")
        after = x + self.residual_scale * attended
        if self.facts.parallel or (self.facts.layer_norm and ffn_norm not in self.weights):
            source = normed
        else:
            source = norm(x if self.parallel_norms else after, ffn_norm)
        added = norm(self.feed_forward(layer, source), f"{name}.post_ffw_norm")
        return after + self.residual_scale * added

    def _layer_of_normed_sums(self, layer: int, x: np.ndarray) -> np.ndarray:
        name = f"blk.{layer}"
        norm = self.weights.norm
        after = norm(x + self._attention(layer, x), f"{name}.attn_output_norm")
        if f"{name}.attn_norm_2" in self.weights:
            after = norm(x + after, f"{name}.attn_norm_2")
        return norm(after + self.feed_forward(layer, after), f"{name}.layer_output_norm")

    def _attention(self, layer: int, x: np.ndarray) -> np.ndarray:
        name = f"blk.{layer}.attn"
        length, past = len(x), len(self.keys[layer])
        positions = np.arange(past, past + length)
        if self.latent is not None:
            q, k, v = self.latent.project(name, x, positions)
        else:
            q, k, v = self._rotated(layer, *self._projected(name, x), positions)
        self.keys[layer] = k = np.concatenate([self.keys[layer], k])
        self.values[layer] = v = np.concatenate([self.values[layer], v])

        # Query heads g * group .. (g + 1) * group - 1 share key/value head g.
        group = self.num_heads // self.num_kv_heads
        q = q.reshape(length, self.num_kv_heads, group, self.head_dim)
        scores = np.einsum("ighd,jgd->ghij", q, k) * self.attention_scale
        scores = _capped(scores, self.attention_cap)
        distance = positions[:, None] - np.arange(past + length)
        if self.facts.alibi:
            slopes = alibi_slopes(self.num_heads).reshape(self.num_kv_heads, group)
            scores = scores - slopes[:, :, None, None] * np.abs(distance)
        window = self.windows[layer]
        if self.is_causal:
            scores[..., distance < 0] = -np.inf
            if window:
                scores[..., distance >= window] = -np.inf
        elif window:
            scores[..., np.abs(distance) > window // 2] = -np.inf
        mixed = np.einsum("ghij,jgd->ighd", self._shares(name, scores), v)
        return self.weights.linear(mixed.reshape(length, -1), f"{name}_output")

    def _projected(self, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries, keys and values as heads (len, heads, head_dim), q and k normed."""
        heads = (self.num_heads, self.num_kv_heads, self.num_kv_heads)
        if f"{name}_qkv" in self.weights:
            ends = np.cumsum(heads)[:2] * self.head_dim
            flat = np.split(self.weights.linear(x, f"{name}_qkv"), ends, axis=-1)
        else:
            flat = [self.weights.linear(x, f"{name}_{part}") for part in "qkv"]
        parts = [y.reshape(len(x), n, self.head_dim) for y, n in zip(flat, heads, strict=True)]
        for i, part in enumerate("qk"):
            norm = f"{name}_{part}_norm"
            if norm in self.weights and self.weights[norm].shape == flat[i].shape[1:]:
                # One norm over all heads; with a single head it is the same as one for each.
                parts[i] = self.weights.norm(flat[i], norm).reshape(parts[i].shape)
            else:
                parts[i] = self.weights.norm(parts[i], norm)
        return parts[0], parts[1], parts[2]

    def _rotated(
        self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray, positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        facts, windowed = self.facts, self.windows[layer] > 0
        period = facts.no_rope_period
        if facts.no_rope or not self.rotates or (period and (layer + 1) % period == 0):
            return q, k, v
        if facts.rope_under_windows_only and any(self.windows) and not windowed:
            return q, k, v
        rope = self.local_rope if windowed else self.rope
        return rope.rotate(q, positions), rope.rotate(k, positions), v

    def _shares(self, name: str, scores: np.ndarray) -> np.ndarray:
        """Softmax of scores (groups, heads of a group, len, past + len); sinks take their part."""
        if f"{name}_sinks" not in self.weights:
            return softmax(scores)
        sinks = self.weights[f"{name}_sinks"].reshape(*scores.shape[:2], 1, 1)
        sinks = np.broadcast_to(sinks, (*scores.shape[:3], 1))
        return softmax(np.concatenate([scores, sinks], axis=-1))[..., :-1]


def alibi_slopes(num_heads: int) -> np.ndarray:
    """(num_heads,) of arXiv:2108.12409, whose authors' rule for other numbers than powers of two
    takes every second slope of the next power after those of the power below."""
    power = 2 ** int(np.floor(np.log2(num_heads)))
    ratio = 2.0 ** (-8.0 / power)
    slopes = ratio ** np.arange(1, power + 1)
    finer = (2.0 ** (-8.0 / (2 * power))) ** np.arange(1, 2 * power + 1)
    return np.concatenate([slopes, finer[0::2]])[:num_heads]


def _capped(x: np.ndarray, cap: float) -> np.ndarray:
    return cap * np.tanh(x / cap) if cap else x


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
