"""Sampling in float64 NumPy, as the order of operations reads: sort, softmax, cumulate, draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


def philox4x32_10(counter: list[int], key: list[int]) -> list[int]:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            (b >> 32) ^ c1 ^ k0,
            b & 0xFFFFFFFF,
            (a >> 32) ^ c3 ^ k1,
            a & 0xFFFFFFFF,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def uniform(seed: int, position: int) -> float:
    """In [0, 1): the fraction of the total weight at which the draw falls."""
    low, high, _, _ = philox4x32_10(
        [position & 0xFFFFFFFF, position >> 32, 0, 0], [seed & 0xFFFFFFFF, seed >> 32]
    )
    return (high << 32 | low) / 2**64


@dataclass
class Row:
    """One row's parameters. `earlier` and `output` are token ids, repeated as they occurred."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    prompt: list[int] = field(default_factory=list)
    output: list[int] = field(default_factory=list)
    allowed: np.ndarray | None = None  # [vocab] bool
    seed: int = 0
    position: int = 0


@dataclass
class Draw:
    """`kept` are the tokens that may be drawn and `probability` theirs, in the order of ids.

    `margin` is how far, as a share of the total weight, the nearest decision (the edge of the
    nucleus, min_p, the draw itself) was from falling the other way.
    """

    token_id: int
    kept: np.ndarray
    probability: np.ndarray
    margin: float


def adjusted(logits: np.ndarray, row: Row) -> np.ndarray:
    """Logits after bias, penalties and mask. float32 at every step, so that ties are exact."""
    x = logits.astype(np.float32).copy()
    for token, bias in row.logit_bias.items():
        x[token] += np.float32(bias)
    penalty = np.float32(row.repetition_penalty)
    for token in set(row.prompt) | set(row.output):
        x[token] = x[token] / penalty if x[token] > 0 else x[token] * penalty
    for token in set(row.output):
        count = row.output.count(token)
        x[token] -= np.float32(row.presence_penalty + row.frequency_penalty * count)
    if row.allowed is not None:
        x[~row.allowed] = -np.inf
    return np.where(np.isnan(x), -np.inf, x)


def sample(logits: np.ndarray, row: Row) -> Draw:
    """Draws from one row that has at least one finite logit and no +inf."""
    x = adjusted(logits, row).astype(np.float64)
    order = np.lexsort((np.arange(len(x)), -x))
    order = order[x[order] > -np.inf]
    if row.temperature == 0:
        return Draw(int(order[0]), order[:1], np.ones(1), 1.0)
    if row.top_k > 0:
        order = order[: row.top_k]
    weight = np.exp((x[order] - x[order[0]]) / np.float64(np.float32(row.temperature)))
    margin = 1.0
    if row.top_p < 1:
        need = np.float64(np.float32(row.top_p)) * weight.sum()
        cumulative = np.cumsum(weight)
        end = int(np.searchsorted(cumulative, need)) + 1
        edges = cumulative[max(0, end - 2) : end]
        margin = min(margin, float(np.abs(edges - need).min() / weight.sum()))
        order, weight = order[:end], weight[:end]
    if row.min_p > 0:
        ratio = weight / weight[0]
        least = np.float64(np.float32(row.min_p))
        margin = min(margin, float(np.abs(ratio - least).min()))
        order, weight = order[ratio >= least], weight[ratio >= least]
    by_id = np.argsort(order)
    order, weight = order[by_id], weight[by_id]
    cumulative = np.cumsum(weight) / weight.sum()
    u = uniform(row.seed, row.position)
    index = min(int(np.searchsorted(cumulative, u, side="right")), len(order) - 1)
    edges = cumulative[max(0, index - 1) : index + 1]
    if len(order) > 1:
        margin = min(margin, float(np.abs(edges - u).min()))
    return Draw(int(order[index]), order, weight / weight.sum(), margin)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    x = np.where(np.isnan(logits), -np.inf, logits).astype(np.float64)
    shifted = x - x.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
