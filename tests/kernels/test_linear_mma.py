"""Products on matrix cores against float64, and how they take tiles apart."""

from __future__ import annotations

import numpy as np
import pytest
from host_kernels import ROW_PIECE, THREADS, WAVES, Memory, ceil_div, count, launch, unset
from linear_cases import block_weights, decode, has_float_activations, random_weights

from reference.blocks import FORMATS

QUANTIZED = [name for name in FORMATS if not has_float_activations(name)]
COLUMNS = (16, 32, 64)
BF16_UNIT = 2.0**-8
# Matrix cores may cut sums off instead of rounding them.
SUM_UNIT = 2.0**-23


def to_bf16(x: np.ndarray) -> np.ndarray:
    """Bits of float32 values rounded to nearest, ties to even; NaNs stay NaNs."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


def of_bf16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def mma(
    name: str, wave: int, w: np.ndarray, x: np.ndarray, columns: int, **options: object
) -> np.ndarray:
    """y (columns of x, rows of w), for x in bf16; outputs around it stay untouched."""
    rows, k = len(w), x.shape[1]
    cols = int(options.pop("cols", len(x)))
    y = unset(cols + 1, rows + 3)
    matrices = int(options.pop("matrices", 1))
    rows //= matrices
    fields = {
        "y": y,
        "w": Memory(w),
        "x": Memory(x),
        "num_columns": count(cols),
        "matrix_bytes": rows * w.shape[1],
        "row_bytes": w.shape[1],
        "x_stride": k,
        "y_stride": rows + 3 if matrices == 1 else y.array.shape[1],
        "rows": rows,
        "k": k,
        **options,
    }
    grid = (ceil_div(cols, columns) + 1, ceil_div(rows, 2 * columns), matrices)
    launch("linear_mma", wave, grid, f"{name}_c{columns}", **fields)
    assert np.isnan(y.array[cols:]).all()
    assert np.isnan(y.array[:, rows:]).all()
    return y.array[:cols, :rows]


def assert_matches(y: np.ndarray, x: np.ndarray, weights: np.ndarray) -> None:
    """weights (rows, k) or one matrix a column (columns, rows, k), before their rounding."""
    columns = of_bf16(x)
    form = "rk,ck->cr" if weights.ndim == 2 else "crk,ck->cr"
    exact = np.einsum(form, weights, columns)
    sizes = np.einsum(form, np.abs(weights), np.abs(columns))
    # A weight's own float32 rounding is as nothing beside that to bf16.
    bound = (1.01 * BF16_UNIT + x.shape[1] * SUM_UNIT) * sizes
    assert np.all(np.abs(y - exact) <= bound)


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", QUANTIZED)
def test_products_match_float64(name: str, wave: int) -> None:
    """Rows, columns and depths that leave tiles unfilled, in tiles of every size."""
    depths = (
        {16: 1280, 32: 768, 64: 256} if block_weights(name) == 256 else {16: 608, 32: 96, 64: 160}
    )
    for columns, k in depths.items():
        rng = np.random.default_rng([wave, columns])
        w = random_weights(rng, name, 2 * columns + 5, k)
        x = to_bf16(rng.standard_normal((columns + 3, k)))
        assert_matches(mma(name, wave, w, x, columns), x, decode(name, w))


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("name", ["Q4_0", "Q4_K", "Q6_K", "Q2_K"])
def test_unit_vectors_pick_every_weight_alone(name: str, columns: int, wave: int) -> None:
    """Each pair of elements of the operands meets in one element of the result, and no other."""
    k = 256
    rng = np.random.default_rng(columns)
    w = random_weights(rng, name, 2 * columns, k)
    y = mma(name, wave, w, to_bf16(np.eye(k)), columns)
    # One rounding of the weight, and its own in float32: what has a minimum may cancel.
    largest = np.abs(decode(name, w)).max()
    bound = 1.01 * BF16_UNIT * np.abs(decode(name, w)).T + 2.0**-20 * largest
    assert np.all(np.abs(y - decode(name, w).T) <= bound)


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("columns", COLUMNS)
def test_several_matrices_take_their_own_columns(columns: int, wave: int) -> None:
    rng = np.random.default_rng(6)
    rows, k, tokens = 21, 128, 30
    begin = np.array([0, columns + 6, columns + 6, columns + 7, columns + 27], np.int32)
    w = random_weights(rng, "Q4_0", 4 * rows, k)
    x = to_bf16(rng.standard_normal((tokens, k)))
    source = rng.integers(0, tokens, begin[-1]).astype(np.int32)
    y = mma(
        "Q4_0",
        wave,
        w,
        x,
        columns,
        cols=begin[-1],
        matrices=4,
        matrix_begin=Memory(begin),
        column_row=Memory(source),
    )
    weights = decode("Q4_0", w).reshape(4, rows, k)[np.repeat(np.arange(4), np.diff(begin))]
    assert_matches(y, x[source], weights)


@pytest.mark.parametrize("wave", WAVES)
def test_columns_beyond_the_count_are_left_alone(wave: int) -> None:
    rng = np.random.default_rng(7)
    w = random_weights(rng, "Q4_K", 9, 256)
    for cols in (0, 1, 17):
        x = to_bf16(rng.standard_normal((40, 256)))
        x[cols:] = 0x7FC0  # NaN
        assert np.isfinite(mma("Q4_K", wave, w, x, 32, cols=cols)).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_bad_activation_spoils_its_column_and_no_other(bad: float, wave: int) -> None:
    rng = np.random.default_rng(8)
    w = random_weights(rng, "Q6_K", 9, 512)
    x = rng.standard_normal((20, 512))
    good = mma("Q6_K", wave, w, to_bf16(x), 16)
    x[2, 300] = bad
    y = mma("Q6_K", wave, w, to_bf16(x), 16)
    assert not np.isfinite(y[2]).any()
    assert np.array_equal(np.delete(y, 2, 0), np.delete(good, 2, 0))


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", QUANTIZED)
def test_weights_are_decoded_to_the_nearest_bf16(name: str, wave: int) -> None:
    rng = np.random.default_rng(11)
    k = 9 * 1024 if block_weights(name) == 256 else 9 * 1024 + 32  # more than a block of threads
    w = random_weights(rng, name, 2, k)
    y = Memory(np.full((3, k), 0xFFFF, np.uint16))
    fields = {"y": y, "w": Memory(w), "row_bytes": w.shape[1], "rows": 2, "k": k}
    launch("dequantize", wave, (ceil_div(2 * k // 32, THREADS),), name, **fields)
    assert (y.array[2] == 0xFFFF).all()
    exact = decode(name, w)
    # Where a minimum cancels, float32 has rounded more than bf16 does.
    bound = 1.01 * BF16_UNIT * np.abs(exact) + 2.0**-20 * np.abs(exact).max()
    assert np.all(np.abs(of_bf16(y.array[:2]) - exact) <= bound)


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("block_rows", [128, 256])
def test_products_of_bf16_matrices_match_float64(block_rows: int, wave: int) -> None:
    for rows, cols, k in [(block_rows + 9, 131, 72), (5, 130, 256)]:
        rng = np.random.default_rng([block_rows, k])
        w, x = to_bf16(rng.standard_normal((rows, k))), to_bf16(rng.standard_normal((cols, k + 8)))
        y = unset(cols + 1, rows + 3)
        fields = {
            "y": y,
            "w": Memory(w),
            "x": Memory(x),
            "num_columns": count(cols),
            "x_stride": k + 8,
            "y_stride": rows + 3,
            "rows": rows,
            "k": k,
        }
        grid = (ceil_div(cols, 128) + 1, ceil_div(rows, block_rows))
        launch("gemm", wave, grid, f"r{block_rows}", **fields)
        assert np.isnan(y.array[cols:]).all()
        assert np.isnan(y.array[:, rows:]).all()
        columns, weights = of_bf16(x)[:, :k], of_bf16(w)
        bound = k * SUM_UNIT * (np.abs(columns) @ np.abs(weights).T)
        assert np.all(np.abs(y.array[:cols, :rows] - columns @ weights.T) <= bound)


@pytest.mark.parametrize("wave", WAVES)
def test_activations_are_rounded_to_nearest_and_even(wave: int) -> None:
    rng = np.random.default_rng(9)
    n = ROW_PIECE + 64
    x = np.ldexp(rng.standard_normal((3, n)), rng.integers(-140, 120, (3, n))).astype(np.float32)
    x[0, :6] = [np.inf, -np.inf, 65504.0, 1e38, 0.0, -0.0]
    x[1, :3] = np.array([0x3F808000, 0x3F818000, 0x3F808001], np.uint32).view(np.float32)  # ties
    y = Memory(np.full((4, n), 0xFFFF, np.uint16))
    fields = {"y": y, "x": Memory(x), "num_rows": count(3), "n": n}
    launch("to_bf16", wave, (4, ceil_div(n, ROW_PIECE)), **fields)
    assert np.array_equal(y.array[:3], to_bf16(x))
    assert (y.array[3] == 0xFFFF).all()
    x[2, 5] = np.nan
    launch("to_bf16", wave, (4, ceil_div(n, ROW_PIECE)), **{**fields, "x": Memory(x)})
    assert np.isnan(of_bf16(y.array[2, 5]))
