"""Norms and activations that leave bf16 for matrix cores: bit for bit what rounding the float
kernels' results gives, which test_elementwise.py holds against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from host_kernels import ROW_PIECE, WAVES, Memory, ceil_div, count, launch, unset
from test_linear_direct import tiles
from test_linear_mma import to_bf16

ROWS, EXTRA = 19, 3  # how many there are, and how many more the launch allows for


def normed(operation: str, wave: int, x: np.ndarray, y: Memory) -> None:
    n = x.shape[1]
    weight = np.linspace(-2, 2, n).astype(np.float32)
    key = "y" if operation == "rms_norm" else "quantized"
    fields = {
        key: y,
        "x": Memory(x),
        "weight": Memory(weight),
        "num_rows": count(ROWS),
        "n": n,
        "eps": 1e-5,
    }
    grid = (64,) if operation.endswith("tiles") else (ROWS + EXTRA,)
    launch(operation, wave, grid, **fields)


def activated(operation: str, wave: int, x: np.ndarray, y: Memory) -> None:
    n = x.shape[1] // 2
    key = "y" if operation == "silu_mul" else "quantized"
    fields = {key: y, "x": Memory(x), "num_rows": count(ROWS), "n": n}
    rows = 64 if operation.endswith("tiles") else ROWS + EXTRA
    launch(operation, wave, (rows, ceil_div(n, ROW_PIECE)), **fields)


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize(
    ("operation", "run", "halves"), [("rms_norm", normed, 1), ("silu_mul", activated, 2)]
)
def test_rounded_results_are_those_of_the_float_kernels(
    operation: str, run: Callable[..., None], halves: int, wave: int
) -> None:
    n = ROW_PIECE + 96
    rng = np.random.default_rng(wave)
    x = rng.standard_normal((ROWS + EXTRA, halves * n)).astype(np.float32)
    exact = unset(ROWS + EXTRA, n)
    run(operation, wave, x, exact)
    values = exact.array[:ROWS]
    assert np.isfinite(values).all()

    rounded = Memory(np.full((ROWS + EXTRA, n), 0xFFFF, np.uint16))
    run(f"{operation}_bf16", wave, x, rounded)
    assert np.array_equal(rounded.array[:ROWS], to_bf16(values))
    assert (rounded.array[ROWS:] == 0xFFFF).all()

    tiled = Memory(np.full((64, n), 0xFFFF, np.uint16))
    run(f"{operation}_tiles", wave, x, tiled)
    assert np.array_equal(tiled.array[:32], tiles(values, wave).array)
    assert (tiled.array[32:] == 0xFFFF).all()
