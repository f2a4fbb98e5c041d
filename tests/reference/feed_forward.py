"""The feed-forward networks of the oracle: dense, experts, an expert for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reference.facts import Facts
from reference.weights import Weights


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def sparse_mixer(scores: np.ndarray, count: int) -> np.ndarray:
    """(experts,) weights, 0 but for the best `count`, as the model's authors compute them.

    One after the other: what is far below the maximum is masked, relative to the larger of the two
    by twice the jitter of 0.01; the softmax of the rest weighs the maximum; it is masked for good.
    """
    weights = np.zeros_like(scores)
    left = scores.astype(np.float64)
    for _ in range(count):
        best = int(left.argmax())
        factor = np.maximum(np.abs(scores), left[best])
        gates = np.where((left[best] - left) / factor > 2 * 0.01, -np.inf, left)
        weights[best] = softmax(gates)[best]
        left[best] = -np.inf
    return weights


class FeedForward:
    def __init__(self, weights: Weights, facts: Facts, keys: Mapping[str, Any]) -> None:
        self._weights = weights
        self._facts = facts
        self._num_used = int(keys.get("expert_used_count", 0))
        self._sigmoid = facts.sigmoid_gate
        self._of_all = facts.shares_of_all
        self._scale = 1.0
        if facts.expert_keys:
            self._sigmoid = keys.get("expert_gating_func", 2 if facts.sigmoid_gate else 1) == 2
            self._of_all = not keys.get("expert_weights_norm", facts.sums_by_default)
            self._scale = float(keys.get("expert_weights_scale", 1.0))

    def __call__(self, layer: int, x: np.ndarray) -> np.ndarray:
        name = f"blk.{layer}.ffn"
        if f"{name}_gate_inp" not in self._weights:
            return self._dense(x, name)
        result = self._experts(x, name)
        if f"{name}_up_shexp" not in self._weights:
            return result
        shared = self._dense(x, name, "_shexp")
        if f"{name}_gate_inp_shexp" in self._weights:
            shared = shared * sigmoid(x @ self._weights[f"{name}_gate_inp_shexp"])[:, None]
        return result + shared

    def _inner(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        kind = self._facts.activation
        if kind == "oai":
            gate = np.minimum(gate, 7.0)
            return gate * sigmoid(1.702 * gate) * (np.clip(up, -7.0, 7.0) + 1.0)
        return (gelu(gate) if kind == "gelu" else gate * sigmoid(gate)) * up

    def _dense(self, x: np.ndarray, name: str, suffix: str = "") -> np.ndarray:
        up = self._weights.linear(x, f"{name}_up{suffix}")
        if f"{name}_gate{suffix}" in self._weights:
            inner = self._inner(self._weights.linear(x, f"{name}_gate{suffix}"), up)
        elif self._facts.gated:  # the gate's rows come first, up's after them
            half = up.shape[-1] // 2
            inner = self._inner(up[:, :half], up[:, half:])
        else:
            squared = self._facts.activation == "relu2"
            inner = np.maximum(up, 0.0) ** 2 if squared else gelu(up)
        return self._weights.linear(inner, f"{name}_down{suffix}")

    def _experts(self, x: np.ndarray, name: str) -> np.ndarray:
        """The best experts of each token, weighted by their shares."""
        result = np.zeros_like(x)
        scores = self._weights.linear(x, f"{name}_gate_inp")
        shares = sigmoid(scores) if self._sigmoid else softmax(scores)
        merits = shares + self._weights.bias(f"{name.removesuffix('ffn')}exp_probs_b")
        for row, chances in enumerate(shares):
            chosen = np.argsort(-merits[row], kind="stable")[: self._num_used]
            whole = (1.0 if self._of_all else chances[chosen].sum()) / self._scale
            if self._facts.sparse_mixer:
                whole, chances = 1.0, sparse_mixer(scores[row], self._num_used)
            for expert in chosen:
                gate = self._one(x[row], f"{name}_gate_exps", expert)
                up = self._one(x[row], f"{name}_up_exps", expert)
                down = self._one(self._inner(gate, up), f"{name}_down_exps", expert)
                result[row] += chances[expert] / whole * down
        return result

    def _one(self, x: np.ndarray, name: str, expert: int) -> np.ndarray:
        bias = self._weights.bias(name)
        return self._weights[name][expert] @ x + (bias if np.isscalar(bias) else bias[expert])
