"""Random weights of every block format, the same for ever: SHAKE-128 of a name is the source.

Formats that the `gguf` package cannot quantize to are drawn as blocks: every bit is random
save the block scales, which are set so that the decoded weights have the spread asked for.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

from reference.blocks import decode

# Where a block keeps its scale(s), and how large the minimum's scale has to be against the
# scale for the weights to average to zero: E[scale bits] E[quant] / E[minimum bits].
SCALE_FIELDS = {
    "Q2_K": ((80, 1.0), (82, 1.5)),
    "Q3_K": ((108, 1.0),),
    "Q4_K": ((0, 1.0), (2, 7.5)),
    "Q5_K": ((0, 1.0), (2, 15.5)),
    "Q6_K": ((208, 1.0),),
    "IQ4_NL": ((0, 1.0),),
    "IQ4_XS": ((0, 1.0),),
    **dict.fromkeys(("IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"), ((0, 1.0),)),
}


def uniform(name: str, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    """Float32 in a flat spread of the given standard deviation around zero."""
    raw = hashlib.shake_128(name.encode()).digest(4 * int(np.prod(shape)))
    unit = np.frombuffer(raw, "<u4").astype(np.float64) / 2**32 - 0.5
    return (unit * (np.sqrt(12.0) * deviation)).astype(np.float32).reshape(shape)


def random_matrix(
    name: str, shape: tuple[int, ...], deviation: float, weight_format: GGMLQuantizationType
) -> np.ndarray:
    """Encoded rows (..., row bytes) of weights with the given standard deviation.

    `shape` is of the decoded weights, rows last; a row is a whole number of blocks.
    """
    if weight_format.name in SCALE_FIELDS:
        return _random_blocks(name, shape, deviation, weight_format)
    weights = uniform(name, shape, deviation)
    if weight_format == GGMLQuantizationType.F32:
        return weights
    if weight_format == GGMLQuantizationType.F16:
        return weights.astype(np.float16)
    return quants.quantize(weights, weight_format)


def _random_blocks(
    name: str, shape: tuple[int, ...], deviation: float, weight_format: GGMLQuantizationType
) -> np.ndarray:
    block_weights, block_bytes = GGML_QUANT_SIZES[weight_format]
    num_blocks = int(np.prod(shape)) // block_weights
    blocks = _raw_blocks(name, num_blocks, block_bytes)
    # Scales from half to one and a half of the mean, so that no two blocks are alike.
    spread = 1.0 + uniform(f"{name} scales", (num_blocks,), 0.5 / np.sqrt(3.0))
    _set_scales(blocks, weight_format, spread * (deviation / _deviation_of_unit(weight_format)))
    return blocks.reshape(*shape[:-1], shape[-1] // block_weights * block_bytes)


def _raw_blocks(name: str, num_blocks: int, block_bytes: int) -> np.ndarray:
    raw = hashlib.shake_128(name.encode()).digest(num_blocks * block_bytes)
    return np.frombuffer(raw, np.uint8).reshape(num_blocks, block_bytes).copy()


def _set_scales(blocks: np.ndarray, weight_format: GGMLQuantizationType, scale: np.ndarray) -> None:
    for offset, multiple in SCALE_FIELDS[weight_format.name]:
        half = (scale * multiple).astype("<f2")
        blocks[:, offset : offset + 2] = half.view(np.uint8).reshape(-1, 2)


@cache
def _deviation_of_unit(weight_format: GGMLQuantizationType) -> float:
    """Standard deviation of random blocks whose scale is 1."""
    blocks = _raw_blocks("unit", 64, GGML_QUANT_SIZES[weight_format][1])
    _set_scales(blocks, weight_format, np.ones(len(blocks)))
    return float(decode(blocks, weight_format).std())
