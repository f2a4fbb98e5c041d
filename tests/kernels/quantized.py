"""Activations in 8 bits as the kernels lay them out, from their definition."""

from __future__ import annotations

import numpy as np

SCALE = np.dtype([("d", "<f4"), ("low_sum", "<i2"), ("high_sum", "<i2")])


def row_bytes(k: int) -> int:
    return -(-(k + k // 32 * 8) // 16) * 16


def quantize(x: np.ndarray) -> np.ndarray:
    """Rows (rows, row_bytes) of x (rows, k); bytes behind the scales are 0xff."""
    rows, k = x.shape
    groups = x.reshape(rows, -1, 32)
    largest = np.abs(groups).max(-1)
    with np.errstate(all="ignore"):
        d = largest / np.float32(127)
        inverse = np.float32(127) / largest
        quants = np.rint(groups * inverse[..., None])
    finite = np.isfinite(largest)
    usable = finite & (d >= np.float32(2.0**-126))
    quants = np.where(usable[..., None], quants, 0).astype(np.int8)
    scales = np.empty((rows, k // 32), SCALE)
    scales["d"] = np.where(usable, d, np.where(finite, np.float32(0), np.float32(np.nan)))
    scales["low_sum"] = quants[..., :16].sum(-1, dtype=np.int16)
    scales["high_sum"] = quants[..., 16:].sum(-1, dtype=np.int16)
    out = np.full((rows, row_bytes(k)), 0xFF, np.uint8)
    out[:, :k] = quants.reshape(rows, k).view(np.uint8)
    out[:, k : k + k // 32 * 8] = scales.view(np.uint8).reshape(rows, -1)
    return out


def dequantize(rows: np.ndarray, k: int) -> np.ndarray:
    """float64 (rows, k)"""
    quants = rows[:, :k].copy().view(np.int8).astype(np.float64)
    scales = rows[:, k : k + k // 32 * 8].copy().view(SCALE)
    return quants * np.repeat(scales["d"].astype(np.float64), 32, axis=1)
