"""A column's bits depend on nothing but its weights and itself: kernels.hpp's invariant."""

from __future__ import annotations

import numpy as np
import pytest
from linear_cases import block_weights, random_weights

from reference.blocks import FORMATS
from rocmforge import _native

ROWS = 85  # panels of 16 rows, five whole ones
MAX_COLS = 70


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def operands(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A row length that ends in a partial chunk wherever the format allows one."""
    k = {1: 553, 32: 736, 256: 768}[block_weights(name)]
    rng = np.random.default_rng(len(name))
    return random_weights(rng, name, ROWS, k), rng.normal(size=(MAX_COLS, k)).astype(np.float32)


def uses_panels(isa: str, activations: str) -> bool:
    return isa != "scalar" and activations == "auto"


@pytest.mark.parametrize("activations", ["auto", "float"])
def test_a_column_is_the_same_in_any_company(isa: str, name: str, activations: str) -> None:
    w, x = operands(name)
    alone = np.concatenate(
        [_native.cpu.linear(name, w, x[c : c + 1], isa, activations) for c in range(MAX_COLS)]
    )
    for num_cols in (2, 3, 4, 5, 7, 8, 9, 17, 64, 65, MAX_COLS):
        for first in {0, 1, MAX_COLS - num_cols}:
            some = slice(first, min(first + num_cols, MAX_COLS))
            y = _native.cpu.linear(name, w, x[some], isa, activations)
            assert y.tobytes() == alone[some].tobytes(), (first, num_cols)


@pytest.mark.parametrize("activations", ["auto", "float"])
@pytest.mark.parametrize("cols", [1, 5])
def test_a_row_is_the_same_in_any_split(isa: str, name: str, activations: str, cols: int) -> None:
    w, x = operands(name)
    x = x[:cols]
    whole = _native.cpu.linear(name, w, x, isa, activations)
    for width in (16, 32, 48, 64) if uses_panels(isa, activations) else (1, 2, 3, 8, 11, 16):
        y = np.full((cols, ROWS), np.nan, np.float32)
        for begin in range(0, ROWS, width):
            rows = (begin, min(begin + width, ROWS))
            _native.cpu.linear(name, w, x, isa, activations, rows, y)
        assert y.tobytes() == whole.tobytes(), width


@pytest.mark.parametrize("activations", ["auto", "float"])
def test_rows_outside_the_range_are_left_alone(isa: str, name: str, activations: str) -> None:
    w, x = operands(name)
    y = np.full((3, ROWS), 7.0, np.float32)
    _native.cpu.linear(name, w, x[:3], isa, activations, (16, 48), y)
    assert np.all(y[:, :16] == 7.0)
    assert np.all(y[:, 48:] == 7.0)
    assert not np.any(y[:, 16:48] == 7.0)
    _native.cpu.linear(name, w, x[:3], isa, activations, (16, 16), y)
    assert np.all(y[:, :16] == 7.0)
