"""Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434), read as the paper has it: keys and
values of every head are computed from the latent vector, not queries brought to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from reference.rope import Rope
from reference.weights import Weights


class LatentAttention:
    def __init__(
        self, weights: Weights, keys: Mapping[str, Any], rope: Rope, num_heads: int
    ) -> None:
        self._weights = weights
        self._num_heads = num_heads
        self._size = int(keys["attention.kv_lora_rank"])
        self.head_dim = int(keys["attention.key_length_mla"])
        self.value_dim = int(keys["attention.value_length_mla"])
        self.scale = self.head_dim**-0.5
        self._rope = rope
        if keys.get("rope.scaling.type") == "yarn":
            # As llama.cpp has it: the rotation keeps lengths, and scores are scaled twice, once
            # for queries and once for keys.
            growth = math.log(keys["rope.scaling.factor"])
            self._rope = replace(rope, magnitude=rope.magnitude / (0.1 * growth + 1.0))
            self.scale *= (1.0 + keys["rope.scaling.yarn_log_multiplier"] * growth) ** 2

    def project(
        self, name: str, x: np.ndarray, positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries and keys (len, heads, head_dim), rotated, and values (len, heads, value_dim)."""
        linear, norm = self._weights.linear, self._weights.norm
        if f"{name}_q_a" in self._weights:
            q = linear(norm(linear(x, f"{name}_q_a"), f"{name}_q_a_norm"), f"{name}_q_b")
        else:
            q = linear(x, f"{name}_q")
        q = q.reshape(len(x), self._num_heads, self.head_dim)
        both = linear(x, f"{name}_kv_a_mqa")
        latent = norm(both[:, : self._size], f"{name}_kv_a_norm")
        turning = self._rope.rotate(both[:, None, self._size :], positions)
        k = np.einsum("hsd,ts->thd", self._weights[f"{name}_k_b"], latent)
        v = np.einsum("hds,ts->thd", self._weights[f"{name}_v_b"], latent)
        still = k.shape[-1]
        turned = self._rope.rotate(q[..., still:], positions)
        everywhere = np.broadcast_to(turning, (*k.shape[:2], turning.shape[-1]))
        return (
            np.concatenate([q[..., :still], turned], axis=-1),
            np.concatenate([k, everywhere], axis=-1),
            v,
        )
