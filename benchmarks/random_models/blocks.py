"""Random encoded weights of every format, at the speed of a disk.

In a block every bit is random save the scales, which are set so that the decoded weights have
the spread asked for. Float formats draw from a table of 2**16 normal quantiles.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

CHUNK_BYTES = 16 << 20
FLOATS = ("F32", "F16", "BF16")

# Where a block keeps its scale and its minimum, and what the minimum is for a scale of 1 if the
# weights are to average to zero.
SCALES: dict[str, tuple[tuple[int, float], ...]] = {
    "Q4_0": ((0, 1.0),),
    "Q4_1": ((0, 1.0), (2, -7.5)),
    "Q5_0": ((0, 1.0),),
    "Q5_1": ((0, 1.0), (2, -15.5)),
    "Q8_0": ((0, 1.0),),
    "Q2_K": ((80, 1.0), (82, 1.5)),
    "Q3_K": ((108, 1.0),),
    "Q4_K": ((0, 1.0), (2, 7.5)),
    "Q5_K": ((0, 1.0), (2, 15.5)),
    "Q6_K": ((208, 1.0),),
    "IQ4_NL": ((0, 1.0),),
    "IQ4_XS": ((0, 1.0),),
}
# The quants of these do not average to zero; a scale of either sign makes the weights do so.
SIGNED = ("Q4_0", "Q5_0", "IQ4_NL")
FORMATS = (*FLOATS, *SCALES, "MXFP4")


def weight_bytes(weight_format: str, num_weights: int) -> int:
    block_weights, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[weight_format]]
    return num_weights // block_weights * block_bytes


def random_weights(
    name: str, seed: int, weight_format: str, num_weights: int, deviation: float
) -> Iterator[npt.NDArray[Any]]:
    """Chunks of bytes that make up `num_weights`, a whole number of blocks.

    The same arguments give the same bytes.
    """
    bits = np.random.SFC64([seed, zlib.crc32(name.encode())])
    block_weights, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[weight_format]]
    num_blocks = num_weights // block_weights
    step = CHUNK_BYTES // block_bytes
    for first in range(0, num_blocks, step):
        count = min(step, num_blocks - first)
        if weight_format in FLOATS:
            yield _floats(bits, weight_format, count, deviation)
        else:
            yield _blocks(bits, weight_format, count, deviation / _unit_deviation(weight_format))


def _floats(
    bits: np.random.SFC64, weight_format: str, count: int, deviation: float
) -> npt.NDArray[Any]:
    table = (_normal_quantiles() * deviation).astype(np.float32)
    if weight_format == "F16":
        table = table.astype(np.float16)
    elif weight_format == "BF16":
        table = ((table.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
    return table[_random_bytes(bits, 2 * count).view(np.uint16)].view(np.uint8)


@cache
def _normal_quantiles() -> npt.NDArray[np.float64]:
    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / 2**16) for i in range(2**16)])


def _blocks(
    bits: np.random.SFC64, weight_format: str, count: int, scale: float
) -> npt.NDArray[np.uint8]:
    """Blocks whose scales lie between a half and one and a half of `scale`."""
    block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[weight_format]][1]
    blocks = _random_bytes(bits, count * block_bytes).reshape(count, block_bytes)
    draws = _random_bytes(bits, 2 * count).view(np.uint16)
    if weight_format == "MXFP4":
        # The scale is 2**(e - 127), of which two neighbours are mixed so that the mean
        # square is that of `scale`.
        exponent = int(np.floor(np.log2(scale)))
        share = ((scale / 2**exponent) ** 2 - 1) / 3
        blocks[:, 0] = exponent + 127 + (draws < share * 2**16)
        return blocks
    scales = (scale * (0.5 + (draws >> 1) / 2**15)).astype(np.float32)
    if weight_format in SIGNED:
        scales *= 1.0 - 2.0 * (draws & 1)
    for offset, multiple in SCALES[weight_format]:
        half = (scales * multiple).astype("<f2")
        blocks[:, offset : offset + 2] = half.view(np.uint8).reshape(-1, 2)
    return blocks


@cache
def _unit_deviation(weight_format: str) -> float:
    """Standard deviation of random blocks whose scale is 1."""
    blocks = _blocks(np.random.SFC64(0), weight_format, 2048, 1.0)
    return float(quants.dequantize(blocks, GGMLQuantizationType[weight_format]).std())


def _random_bytes(bits: np.random.SFC64, count: int) -> npt.NDArray[np.uint8]:
    return bits.random_raw(-(-count // 8)).view(np.uint8)[:count]
