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
    frequencies; None stands for all ones.
    """
    base = float(keys.get("rope.freq_base", 10000.0))
    frequency = base ** (-2.0 * np.arange(dim // 2) / dim)
    if factors is not None:
        frequency = frequency / factors

    kind = keys.get("rope.scaling.type", "linear")
    if kind not in ("none", "linear", "yarn"):
        message = f"no reference for rope scaling {kind!r}"
        raise NotImplementedError(message)
    factor = float(keys.get("rope.scaling.factor", keys.get("rope.scale_linear", 0.0))) or 1.0
    if kind == "none":
        factor = 1.0
    stretch = float(keys.get("rope.scaling.yarn_ext_factor", -1.0))
    if stretch < 0:
        stretch = 1.0 if kind == "yarn" else 0.0

    interpolated = frequency / factor
    magnitude = float(keys.get("rope.scaling.attn_factor", 1.0))
    if stretch == 0:
        magnitude *= float(keys.get("rope.scaling.yarn_attn_factor", 1.0))
        return Rope(dim, interleaved, interpolated, magnitude)

    original_context = int(keys.get("rope.scaling.original_context_length", context_length))
    keep = stretch * _extrapolated_share(
        dim,
        base,
        original_context,
        beta_fast=float(keys.get("rope.scaling.yarn_beta_fast", 32.0)),
        beta_slow=float(keys.get("rope.scaling.yarn_beta_slow", 1.0)),
    )
    magnitude *= _yarn_magnitude(factor, 1.0)
    log_multiplier = float(keys.get("rope.scaling.yarn_log_multiplier", 0.0))
    if log_multiplier != 0:
        magnitude /= _yarn_magnitude(factor, log_multiplier)
    return Rope(dim, interleaved, interpolated * (1 - keep) + frequency * keep, magnitude)


def _extrapolated_share(
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


def _yarn_magnitude(factor: float, multiplier: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * multiplier * math.log(factor) + 1.0
