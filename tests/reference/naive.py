"""A second reading of the same formulas: one number at a time, rope by complex numbers.

Slow, plain Python floats, no state and no NumPy arithmetic, so that it has no slip in common
with decoder.py. Float32 files without rope scaling only.
"""

from __future__ import annotations

import cmath
import math
from pathlib import Path
from typing import Any

from gguf import GGUFReader

Vector = list[float]
Matrix = list[Vector]


def naive_logits(path: Path, token_ids: list[int]) -> Matrix:
    reader = GGUFReader(path)
    weights: dict[str, Any] = {t.name: t.data.astype(float).tolist() for t in reader.tensors}
    fields = {name: field.contents() for name, field in reader.fields.items()}
    prefix = fields["general.architecture"]
    heads = fields[f"{prefix}.attention.head_count"]
    kv_heads = fields[f"{prefix}.attention.head_count_kv"]
    head_dim = fields[f"{prefix}.rope.dimension_count"]
    base = fields[f"{prefix}.rope.freq_base"]
    epsilon = fields[f"{prefix}.attention.layer_norm_rms_epsilon"]
    used = fields.get(f"{prefix}.expert_used_count", 0)

    def norm(x: Vector, name: str) -> Vector:
        scale = 1 / math.sqrt(sum(v * v for v in x) / len(x) + epsilon)
        return [v * scale * w for v, w in zip(x, weights[name], strict=True)]

    def affine(x: Vector, name: str) -> Vector:
        y = matvec(weights[f"{name}.weight"], x)
        bias = weights.get(f"{name}.bias", [0.0] * len(y))
        return [v + b for v, b in zip(y, bias, strict=True)]

    def head(x: Vector, index: int) -> Vector:
        return x[index * head_dim : (index + 1) * head_dim]

    def turn(x: Vector, position: int) -> Vector:
        y = [0.0] * head_dim
        for pair in range(head_dim // 2):
            a, b = (2 * pair, 2 * pair + 1) if prefix == "llama" else (pair, pair + head_dim // 2)
            z = complex(x[a], x[b]) * cmath.rect(1.0, position * base ** (-2 * pair / head_dim))
            y[a], y[b] = z.real, z.imag
        return y

    def prepared(x: Vector, index: int, position: int, norm_name: str) -> Vector:
        part = head(x, index)
        return turn(norm(part, norm_name) if norm_name in weights else part, position)

    def attention(layer: int, xs: Matrix) -> Matrix:
        name = f"blk.{layer}.attn"
        qs, ks, vs = ([affine(x, f"{name}_{part}") for x in xs] for part in "qkv")
        out = []
        for i in range(len(xs)):
            mixed: Vector = []
            for h in range(heads):
                shared = h // (heads // kv_heads)
                q = prepared(qs[i], h, i, f"{name}_q_norm.weight")
                scores = [
                    dot(q, prepared(ks[j], shared, j, f"{name}_k_norm.weight"))
                    / math.sqrt(head_dim)
                    for j in range(i + 1)
                ]
                shares = softmax(scores)
                values = [head(vs[j], shared) for j in range(i + 1)]
                mixed += [dot(shares, list(column)) for column in zip(*values, strict=True)]
            out.append(affine(mixed, f"{name}_output"))
        return out

    def swiglu(x: Vector, gate: Matrix, up: Matrix, down: Matrix) -> Vector:
        inner = [
            g / (1 + math.exp(-g)) * u for g, u in zip(matvec(gate, x), matvec(up, x), strict=True)
        ]
        return matvec(down, inner)

    def feed_forward(layer: int, x: Vector) -> Vector:
        name = f"blk.{layer}.ffn"
        if f"{name}_gate_inp.weight" not in weights:
            return swiglu(x, *(weights[f"{name}_{p}.weight"] for p in ("gate", "up", "down")))
        chances = softmax(matvec(weights[f"{name}_gate_inp.weight"], x))
        best = sorted(range(len(chances)), key=lambda e: chances[e], reverse=True)[:used]
        total = sum(chances[e] for e in best)
        parts = [
            [
                chances[e] / total * v
                for v in swiglu(
                    x, *(weights[f"{name}_{p}_exps.weight"][e] for p in ("gate", "up", "down"))
                )
            ]
            for e in best
        ]
        return [sum(column) for column in zip(*parts, strict=True)]

    xs = [list(weights["token_embd.weight"][token]) for token in token_ids]
    for layer in range(fields[f"{prefix}.block_count"]):
        normed = [norm(x, f"blk.{layer}.attn_norm.weight") for x in xs]
        xs = [add(x, y) for x, y in zip(xs, attention(layer, normed), strict=True)]
        normed = [norm(x, f"blk.{layer}.ffn_norm.weight") for x in xs]
        xs = [add(x, feed_forward(layer, y)) for x, y in zip(xs, normed, strict=True)]
    head_name = "output" if "output.weight" in weights else "token_embd"
    return [affine(norm(x, "output_norm.weight"), head_name) for x in xs]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def matvec(rows: Matrix, x: Vector) -> Vector:
    return [dot(row, x) for row in rows]


def add(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]


def softmax(x: Vector) -> Vector:
    powers = [math.exp(v) for v in x]
    return [p / sum(powers) for p in powers]
