"""Products of many columns in bfloat16 tiles, every format, against float64 NumPy.

A weight is the bfloat16 nearest to its float32 value and an activation the one nearest to itself;
the product of two is exact in float32. So against the float64 product of the rounded operands only
the float32 additions count, which is sharp enough to see a single wrong weight.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from linear_cases import (
    UNIT_ROUNDOFF,
    Shape,
    block_weights,
    decode,
    magnitude,
    random_weights,
    set_scales,
)

from reference.blocks import FORMATS
from rocmforge import _native, errors

pytestmark = pytest.mark.skipif(
    "amx" not in _native.cpu.available_isas(),
    reason="this machine has no AMX tiles (or the kernel refused them): no level multiplies in "
    "bfloat16 here, and the engine uses the per-column kernels for every number of columns",
)

ROWS = (1, 15, 16, 17, 33, 64, 257)
COLS = (1, 15, 16, 17, 31, 32, 33, 64, 100)
# In units of 32 or one block: within a slab of 512, on its edge, beyond it, an odd last tile.
LENGTHS = {1: (1, 2, 4, 15, 16, 17, 33, 64), 32: (1, 2, 3, 15, 16, 17, 33, 64), 256: (1, 2, 3, 5)}
BFLOAT16_ROUNDOFF = 2.0**-8


@pytest.fixture(scope="module")
def gemm() -> _native.cpu.Gemm:
    return _native.cpu.Gemm("amx", 1)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """To nearest, ties to even; subnormals of the result are zero. Returns float64."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.abs(rounded) < 2.0**-126, 0.0, rounded).astype(np.float64)


def addition_roundings(k: int) -> float:
    """A product is added once within its half of 32, the halves once, tiles of 32 one by one."""
    return k + k / 16 + 4


@cache
def shapes(name: str) -> list[Shape]:
    """Every number of rows and of columns on either side of a tile, with every length."""
    unit = max(32, block_weights(name))
    lengths = LENGTHS[block_weights(name)]
    chosen = [
        Shape(ROWS[i % len(ROWS)], COLS[(i + i // 7) % len(COLS)], unit * lengths[i % len(lengths)])
        for i in range(max(len(ROWS) * 3, len(COLS)))
    ]
    if block_weights(name) == 1:
        chosen += [Shape(17, 33, k) for k in (1, 31, 33, 63, 65, 511, 513, 1000)]
    chosen += [Shape(300, 20, 1024), Shape(40, 560, 768), Shape(33, 100, 2560)]
    return chosen


def operands(name: str, shape: Shape, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    w = random_weights(rng, name, shape.rows, shape.k)
    return w, rng.normal(size=(shape.cols, shape.k)).astype(np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_products_are_float32_sums_of_rounded_operands(gemm: _native.cpu.Gemm, name: str) -> None:
    for index, shape in enumerate(shapes(name)):
        w, x = operands(name, shape, index)
        y = gemm(name, w, x, grain=1024)
        weights, columns = bfloat16(decode(name, w)), bfloat16(x)
        terms = np.abs(columns) @ np.abs(weights).T
        bound = addition_roundings(shape.k) * UNIT_ROUNDOFF * terms
        assert np.all(np.abs(y - columns @ weights.T) <= bound), shape


@pytest.mark.parametrize("name", FORMATS)
def test_rounding_to_bfloat16_moves_a_product_by_its_bound(
    gemm: _native.cpu.Gemm, name: str
) -> None:
    """Two roundings of 2^-8 each, and those of float32; four of them in decoding a weight."""
    for index, shape in enumerate(shapes(name)):
        w, x = operands(name, shape, index)
        y = gemm(name, w, x)
        exact = x.astype(np.float64)
        relative = (1 + BFLOAT16_ROUNDOFF) ** 2 - 1 + addition_roundings(shape.k) * UNIT_ROUNDOFF
        bound = relative * (np.abs(exact) @ np.abs(decode(name, w)).T)
        bound += 4 * UNIT_ROUNDOFF * (np.abs(exact) @ magnitude(name, w).T)
        assert np.all(np.abs(y - exact @ decode(name, w).T) <= bound), shape


@pytest.mark.parametrize("name", FORMATS)
def test_unit_columns_return_the_rounded_weights(gemm: _native.cpu.Gemm, name: str) -> None:
    k = 1280 if block_weights(name) == 256 else 1056
    rng = np.random.default_rng(5)
    for scale in (1e-4, 0.05, 30.0):
        w = random_weights(rng, name, 35, k, scale)
        y = gemm(name, w, np.eye(k, dtype=np.float32))
        np.testing.assert_array_equal(y, bfloat16(decode(name, w)).T)


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_is_the_same_in_any_split(gemm: _native.cpu.Gemm, name: str) -> None:
    w, x = operands(name, Shape(75, 37, 1280 if block_weights(name) == 256 else 1120), 1)
    whole = gemm(name, w, x)
    for width in (16, 32, 48, 64):
        y = np.full(whole.shape, np.nan, np.float32)
        for begin in range(0, len(w), width):
            gemm(name, w, x, rows=(begin, min(begin + width, len(w))), out=y)
        assert y.tobytes() == whole.tobytes(), width
    two = _native.cpu.Gemm("amx", 2)
    for grain in (16, 32, 48):
        assert two(name, w, x, grain=grain).tobytes() == whole.tobytes(), grain


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_is_the_same_in_any_company(gemm: _native.cpu.Gemm, name: str) -> None:
    w, x = operands(name, Shape(35, 530, 768), 2)
    whole = gemm(name, w, x)
    for first, last in ((0, 1), (3, 20), (16, 48), (5, 60), (500, 530), (1, 530)):
        assert gemm(name, w, x[first:last].copy()).tobytes() == whole[first:last].tobytes()


def test_columns_may_be_any_rows_of_the_input(gemm: _native.cpu.Gemm) -> None:
    w, x = operands("Q4_0", Shape(40, 50, 576), 3)
    source = np.array([7, 7, 49, 0, 12, 3, 30, 31, 8, 9, 10, 11, 44, 45, 46, 2, 1, 48], np.int32)
    picked = gemm("Q4_0", w, x, source=source)
    assert picked.tobytes() == gemm("Q4_0", w, x)[source].tobytes()


def test_rows_outside_the_range_are_left_alone(gemm: _native.cpu.Gemm) -> None:
    w, x = operands("Q6_K", Shape(70, 18, 512), 4)
    y = np.full((18, 70), 7.0, np.float32)
    gemm("Q6_K", w, x, rows=(16, 48), out=y)
    assert np.all(y[:, :16] == 7.0)
    assert np.all(y[:, 48:] == 7.0)
    assert np.all(y[:, 16:48] != 7.0)


@pytest.mark.parametrize("name", FORMATS)
def test_zeros_give_zeros(gemm: _native.cpu.Gemm, name: str) -> None:
    w, x = operands(name, Shape(20, 20, 512), 6)
    assert not gemm(name, w, np.zeros_like(x)).any()
    if name in ("F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K"):
        assert not gemm(name, np.zeros_like(w), x).any()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_finite_stays_in_its_row_and_column(
    gemm: _native.cpu.Gemm, name: str, bad: float
) -> None:
    k = 737 if block_weights(name) == 1 else 768
    w, x = operands(name, Shape(40, 40, k), 7)
    clean = gemm(name, w, x)
    x[11, [0, 700]] = bad
    y = gemm(name, w, x)
    others = np.arange(40) != 11
    assert y[others].tobytes() == clean[others].tobytes()
    assert not np.isfinite(y[11][decode(name, w)[:, 700] != 0]).any()

    if name == "MXFP4":  # has no code for anything that is not finite
        return
    x[11, [0, 700]] = 0.5
    clean = gemm(name, w, x)
    if name in ("F32", "F16", "BF16"):
        number = {"F32": np.float32, "F16": np.float16}.get(name)
        if number is None:
            w[17, 200:202] = (
                (np.array([bad], np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
            )
        else:
            w.view(number)[17, 100] = bad
    else:
        blocks = w.reshape(40, k // block_weights(name), -1)
        set_scales(name, blocks[17:18, 1:2], bad)
    y = gemm(name, w, x)
    others = np.arange(40) != 17
    assert y[:, others].tobytes() == clean[:, others].tobytes()
    assert not np.isfinite(y[:, 17]).any()


@pytest.mark.parametrize(
    ("w", "x", "options", "message"),
    [
        ((3, 36), (20, 32), {}, "rows of 36 bytes; columns of 32 values"),
        ((3, 36), (20, 65), {}, "rows of 36 bytes; columns of 65 values"),
        ((3, 36), (20, 64), {"rows": (2, 4)}, r"within \[0, 3\]"),
        ((3, 36), (20, 64), {"rows": (1, 3)}, "whole panels of 16"),
        ((3, 36), (20, 64), {"grain": 0}, "grain must be a positive multiple of 16"),
        ((3, 36), (20, 64), {"grain": 8}, "grain must be a positive multiple of 16"),
        ((3, 36), (20, 64), {"source": np.array([20], np.int32)}, "x does not have"),
        ((3, 36), (20, 64), {"out": np.zeros((3, 20), np.float32)}, "shape of the result"),
    ],
)
def test_operands_that_do_not_fit_are_refused(
    gemm: _native.cpu.Gemm,
    w: tuple[int, int],
    x: tuple[int, int],
    options: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=message):
        gemm("Q4_0", np.zeros(w, np.uint8), np.zeros(x, np.float32), **options)  # type: ignore[arg-type]


def test_a_level_without_tiles_is_refused() -> None:
    with pytest.raises(errors.UnsupportedError, match="avx512 has no matrix tiles"):
        _native.cpu.Gemm("avx512")
