"""Products of a few columns whose weights are decoded straight into operands, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from host_kernels import WAVES, Memory, ceil_div, count, launch, unset
from linear_cases import block_weights, decode, random_weights
from test_linear_mma import QUANTIZED, assert_matches, of_bf16, to_bf16

COLUMNS = (16, 32)
BF16_UNIT = 2.0**-8


def tiles(x: np.ndarray, wave: int, cols: int | None = None) -> Memory:
    """x (columns, k) as linear_direct reads it, and a margin that stays as it was."""
    cols = len(x) if cols is None else cols
    groups = ceil_div(len(x), 32) * 2
    y = Memory(np.full((groups * 16, x.shape[1]), 0xFFFF, np.uint16))
    fields = {
        "y": y,
        "x": Memory(x.astype(np.float32)),
        "num_columns": count(cols),
        "k": x.shape[1],
    }
    launch("to_tiles", wave, (groups, ceil_div(x.shape[1], 64)), **fields)
    written = ceil_div(cols, 32) * 32
    assert (y.array[written:] == 0xFFFF).all()
    assert not (y.array[:written] == 0xFFFF).any()
    return y


def direct(
    name: str, wave: int, w: np.ndarray, x: np.ndarray, columns: int, cols: int | None = None
) -> np.ndarray:
    """y (columns of x, rows of w); outputs around it stay untouched."""
    rows, k = len(w), x.shape[1]
    cols = len(x) if cols is None else cols
    y = unset(cols + 1, rows + 3)
    fields = {
        "y": y,
        "w": Memory(w),
        "x": tiles(x, wave, cols),
        "num_columns": count(cols),
        "row_bytes": w.shape[1],
        "y_stride": rows + 3,
        "rows": rows,
        "k": k,
    }
    block_rows = 256 // wave // (4 if columns == 16 else 2) * 16
    grid = (ceil_div(len(x), columns), ceil_div(rows, block_rows))
    launch("linear_direct", wave, grid, f"{name}_c{columns}", **fields)
    assert np.isnan(y.array[cols:]).all()
    assert np.isnan(y.array[:, rows:]).all()
    return y.array[:cols, :rows]


@pytest.mark.parametrize("wave", WAVES)
def test_tiles_hold_every_value_rounded_once(wave: int) -> None:
    rng = np.random.default_rng(wave)
    x = rng.standard_normal((19, 96))
    got = tiles(x, wave).array
    by_tile = got.reshape(2, 96 // 16, 256)  # 16 columns by 16 values in some order
    padded = np.zeros((32, 96), np.uint16)
    padded[:19] = to_bf16(x)
    exact = padded.reshape(2, 16, 6, 16).transpose(0, 2, 1, 3).reshape(2, 6, 256)
    assert np.array_equal(np.sort(by_tile, -1), np.sort(exact, -1))


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", QUANTIZED)
def test_products_match_float64(name: str, wave: int) -> None:
    """Rows, columns and depths that leave blocks, steps and lanes without work."""
    depths = {16: 1280, 32: 768} if block_weights(name) == 256 else {16: 608, 32: 96}
    for columns, k in depths.items():
        rng = np.random.default_rng([wave, columns])
        w = random_weights(rng, name, 37, k)
        x = of_bf16(to_bf16(rng.standard_normal((columns + 3, k))))
        y = direct(name, wave, w, x, columns)
        assert_matches(y, to_bf16(x), decode(name, w))


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("name", ["Q4_0", "Q4_K", "Q6_K", "Q2_K"])
def test_unit_vectors_pick_every_weight_alone(name: str, columns: int, wave: int) -> None:
    """Each pair of elements of the operands meets in one element of the result, and no other."""
    k = 256
    rng = np.random.default_rng(columns)
    w = random_weights(rng, name, 20, k)
    y = direct(name, wave, w, np.eye(k), columns)
    largest = np.abs(decode(name, w)).max()
    bound = 1.01 * BF16_UNIT * np.abs(decode(name, w)).T + 2.0**-20 * largest
    assert np.all(np.abs(y - decode(name, w).T) <= bound)


@pytest.mark.parametrize("wave", WAVES)
def test_columns_beyond_the_count_are_left_alone(wave: int) -> None:
    rng = np.random.default_rng(7)
    w = random_weights(rng, "Q4_K", 9, 256)
    for cols in (0, 1, 17):
        x = rng.standard_normal((40, 256))
        x[cols:] = np.nan
        assert np.isfinite(direct("Q4_K", wave, w, x, 32, cols)).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_bad_activation_spoils_its_column_and_no_other(bad: float, wave: int) -> None:
    rng = np.random.default_rng(8)
    w = random_weights(rng, "Q6_K", 9, 512)
    x = rng.standard_normal((20, 512))
    good = direct("Q6_K", wave, w, x, 16)
    x[2, 300] = bad
    y = direct("Q6_K", wave, w, x, 16)
    assert not np.isfinite(y[2]).any()
    assert np.array_equal(np.delete(y, 2, 0), np.delete(good, 2, 0))
