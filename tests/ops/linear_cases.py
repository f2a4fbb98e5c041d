"""Random weights and activations of every format, their float64 values and error magnitudes.

Nothing here uses the kernels: block fields are named by byte offset, and weights are decoded by
the `gguf` package.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from reference.blocks import decode as decode_as

UNIT_ROUNDOFF = 2.0**-24
SMALLEST = 2.0**-149

# Byte offsets of the float16 scales of a block; the second one is the scale of the minimum.
SCALE_FIELDS = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
FLOATS = {"F32": np.float32, "F16": np.float16}

Q8 = np.dtype(
    [("d", "<f4"), ("sums", "<f4", 3), ("offsets", "<i4", 3), ("unused", "<i4"), ("qs", "i1", 32)]
)


class Shape(NamedTuple):
    rows: int
    cols: int
    k: int


def block_weights(name: str) -> int:
    return GGML_QUANT_SIZES[GGMLQuantizationType[name]][0]


def has_float_activations(name: str) -> bool:
    return block_weights(name) == 1


def random_weights(
    rng: np.random.Generator, name: str, rows: int, k: int, scale: float = 0.05
) -> np.ndarray:
    """Rows (rows, row bytes) with every quant bit random and block scales around `scale`."""
    if name in FLOATS:
        weights = (rng.uniform(-1.5, 1.5, (rows, k)) * scale).astype(FLOATS[name])
        return weights.view(np.uint8)
    if name == "BF16":
        weights = (rng.uniform(-1.5, 1.5, (rows, k)) * scale).astype(np.float32)
        return (weights.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    weights_per_block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (rows, k // weights_per_block, block_bytes), dtype=np.uint8)
    if name == "MXFP4":
        exponent = 127 + np.log2(scale)
        blocks[..., 0] = np.clip(rng.integers(exponent - 3, exponent + 4, blocks.shape[:2]), 0, 255)
    else:
        set_scales(name, blocks, scale * rng.uniform(-1.5, 1.5, (*blocks.shape[:2], 2)))
    return blocks.reshape(rows, -1)


def set_scales(name: str, blocks: np.ndarray, scales: np.ndarray | float) -> None:
    """Sets the float16 scales of blocks (..., block bytes); scales is (..., 2) or one number."""
    scales = np.broadcast_to(scales, (*blocks.shape[:-1], 2)).astype("<f2")
    for i, offset in enumerate(SCALE_FIELDS[name]):
        blocks[..., offset : offset + 2] = scales[..., i : i + 1].copy().view(np.uint8)


def decode(name: str, w: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return decode_as(w, GGMLQuantizationType[name])


def magnitude(name: str, w: np.ndarray) -> np.ndarray:
    """|w| as the kernels' partial sums see it: quant and minimum count separately."""
    weights = decode(name, w)
    blocks = w.reshape(len(w), -1, GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]).copy()
    if len(SCALE_FIELDS.get(name, ())) == 2:
        offset = SCALE_FIELDS[name][1]
        blocks[..., offset : offset + 2] = 0
        without_min = decode(name, blocks.reshape(w.shape))
        return np.abs(without_min) + np.abs(weights - without_min)
    return np.abs(weights)


def decode_activations(blocks: np.ndarray) -> np.ndarray:
    """Columns of activation blocks (cols, bytes) as float64 (cols, k)."""
    fields = blocks.view(Q8)
    values = fields["d"].astype(np.float64)[..., None] * fields["qs"]
    return values.reshape(len(blocks), -1)


def rounding_bound(roundings: float, w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How far a float32 sum may be from x @ w.T, float64 (cols, rows).

    A product that passes through n roundings is off by at most n * 2^-24 of itself to first
    order (the second order is far below the slack of any bound here), and every operation whose
    result is subnormal by at most half of the smallest subnormal.
    """
    return np.asarray(
        roundings * UNIT_ROUNDOFF * (np.abs(x) @ np.abs(w).T) + 4 * w.shape[1] * SMALLEST
    )
