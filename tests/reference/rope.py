"""Rotary position embedding in float64, with the scalings that GGUF metadata can ask for.

Keys and arithmetic are llama.cpp's (`llama_model_base::load_hparams`, `llama_context`,
`ggml_rope_yarn_corr_dims`, `rope_yarn`); YaRN itself is Peng et al. 2023, arXiv:2309.00071.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rope:
    """How far each pair of a head turns per position, and by what its length is multiplied."""

    dim: int  # leading elements of a head that turn; the rest pass through
    interleaved: bool  # pairs (0, 1), (2, 3), ... rather than (0, dim/2), (1, dim/2 + 1), ...
    radians_per_position: np.ndarray  # (dim / 2)
    magnitude: float

    def rotate(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Returns x of shape (len, heads, head_dim), turned to its positions (len)."""
        angle = positions[:, None, None] * self.radians_per_position  # (len, 1, dim / 2)
        cos, sin = self.magnitude * np.cos(angle), self.magnitude * np.sin(angle)
        half = self.dim // 2
        if self.interleaved:
            first, second = slice(0, self.dim, 2), slice(1, self.dim, 2)
        else:
            first, second = slice(0, half), slice(half, self.dim)
        turned = x.copy()
        turned[..., first] = x[..., first] * cos - x[..., second] * sin
        turned[..., second] = x[..., first] * sin + x[..., second] * cos
        return turned


def rope_from_metadata(
    keys: Mapping[str, Any],
    *,
    dim: int,
    interleaved: bool,
    context_length: int,
    factors: np.ndarray | None,
) -> Rope:
    """Builds the rope that the `rope.*` keys (without the architecture's prefix) describe.

    `factors` is the tensor rope_freqs.weight (dim / 2), by which Llama 3 files divide the
    frequencies; None stands for all ones. Scaling `llama3`, which llama.cpp has as such a
    tensor only, is Llama 3.1's rule with its parameters as keys.
    """
    base = float(keys.get("rope.freq_base", 10000.0))
    frequency = base ** (-2.0 * np.arange(dim // 2) / dim)
    if factors is not None:
        frequency = frequency / factors

    kind = keys.get("rope.scaling.type", "linear")
    factor = float(keys.get("rope.scaling.factor", keys.get("rope.scale_linear", 1.0)))
    original_context = int(keys.get("rope.scaling.original_context_length", context_length))
    magnitude = float(keys.get("rope.scaling.attn_factor", 1.0))
    if kind == "none":
        keep: Any = 1.0
    elif kind == "linear":
        keep = 0.0
    elif kind == "yarn":
        keep = _yarn_share(
            dim,
            base,
            original_context,
            beta_fast=float(keys.get("rope.scaling.yarn_beta_fast", 32.0)),
            beta_slow=float(keys.get("rope.scaling.yarn_beta_slow", 1.0)),
        )
        magnitude *= 0.1 * math.log(factor) + 1.0
    elif kind == "llama3":
        low = float(keys.get("rope.scaling.low_freq_factor", 1.0))
        high = float(keys.get("rope.scaling.high_freq_factor", 4.0))
        turns = original_context * frequency / (2 * math.pi)
        keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    else:
        message = f"no reference for rope scaling {kind!r}"
        raise NotImplementedError(message)
    return Rope(dim, interleaved, frequency * keep + frequency / factor * (1 - keep), magnitude)


def _yarn_share(
    dim: int, base: float, original_context: int, *, beta_fast: float, beta_slow: float
) -> np.ndarray:
    """1 for pairs that turn over beta_fast times in the original context, 0 for under
    beta_slow times, a straight line over the pair's index between: (dim / 2)."""

    def pair_that_turns(times: float) -> float:
        return dim * math.log(original_context / (times * 2 * math.pi)) / (2 * math.log(base))

    low = max(0.0, math.floor(pair_that_turns(beta_fast)))
    high = min(dim - 1.0, math.ceil(pair_that_turns(beta_slow)))
    line = (np.arange(dim // 2) - low) / max(0.001, high - low)
    return 1.0 - np.clip(line, 0.0, 1.0)
