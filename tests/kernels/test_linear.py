"""Products with weights of every format against float64, and the decoding of single rows."""

from __future__ import annotations

import numpy as np
import pytest
from host_kernels import ROW_PIECE, THREADS, WAVES, Memory, ceil_div, count, launch, unset
from linear_cases import (
    UNIT_ROUNDOFF,
    block_weights,
    decode,
    has_float_activations,
    magnitude,
    random_weights,
)
from quantized import dequantize, quantize, row_bytes

from reference.blocks import FORMATS

QUANTIZED = [name for name in FORMATS if not has_float_activations(name)]
COLUMNS = (1, 4, 8)
# Chunks a lane unpacks at once: weights and pieces of sixteen.
PIECES = {"Q3_K": 4, "Q4_K": 4, "Q5_K": 4, "Q6_K": 4}


def few(
    operation: str,
    name: str,
    wave: int,
    w: np.ndarray,
    x: np.ndarray,
    k: int,
    columns: int,
    **options: object,
) -> np.ndarray:
    """y (columns of x, rows + 3): a stride that leaves three floats untouched."""
    rows, cols = len(w), len(x)
    y = unset(cols, rows + 3)
    launch(
        operation,
        wave,
        (ceil_div(rows, THREADS // wave), ceil_div(cols, columns)),
        f"{name}_c{columns}",
        **{
            "y": y,
            "w": Memory(w),
            "x": Memory(x),
            "num_columns": count(cols),
            "row_bytes": w.shape[-1],
            "x_stride": x.strides[0],
            "y_stride": rows + 3,
            "rows": rows,
            "k": k,
            **options,
        },
    )
    assert np.isnan(y.array[:, rows:]).all()
    return y.array[:, :rows]


def sizes(name: str) -> list[int]:
    if block_weights(name) == 256:
        return [256, 2304]
    return [32, 96, 1120] if block_weights(name) == 32 else [1, 7, 8, 300, 1030]


def padded(x: np.ndarray) -> np.ndarray:
    """x with rows 16 bytes aligned, filled up with NaNs."""
    wide = np.full((len(x), -(-x.shape[1] // 4) * 4), np.nan, np.float32)
    wide[:, : x.shape[1]] = x
    return wide


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", QUANTIZED)
def test_integer_products_match_float64(name: str, wave: int) -> None:
    for k in sizes(name):
        rng = np.random.default_rng([k, wave])
        w = random_weights(rng, name, 37, k)
        x = quantize(rng.standard_normal((9, k), dtype=np.float32))
        exact = dequantize(x, k) @ decode(name, w).T
        # A piece rounds six times; a lane adds its chunks; then a tree of six.
        pieces = PIECES.get(name, 2)
        lane = ceil_div(k // 16, wave * pieces) * pieces
        bound = (lane + 20) * UNIT_ROUNDOFF * (np.abs(dequantize(x, k)) @ magnitude(name, w).T)
        results = [few("linear_q8", name, wave, w, x, k, columns) for columns in COLUMNS]
        assert np.all(np.abs(results[0] - exact) <= bound)
        for other in results[1:]:
            assert np.array_equal(other, results[0])


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", FORMATS)
def test_float_products_match_float64(name: str, wave: int) -> None:
    for k in sizes(name):
        rng = np.random.default_rng([k, wave])
        w = random_weights(rng, name, 21, k)
        x = rng.standard_normal((9, k), dtype=np.float32)
        exact = x.astype(np.float64) @ decode(name, w).T
        bound = (k / wave + 32) * UNIT_ROUNDOFF * (np.abs(x) @ np.abs(decode(name, w)).T)
        results = [few("linear_float", name, wave, w, padded(x), k, c) for c in COLUMNS]
        assert np.all(np.abs(results[0] - exact) <= bound)
        for other in results[1:]:
            assert np.array_equal(other, results[0])


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", FORMATS)
def test_tiles_match_float64(name: str, wave: int) -> None:
    k = {256: 512, 32: 96, 1: 45}[block_weights(name)]
    rng = np.random.default_rng(wave)
    rows, cols = 70, 67
    w = random_weights(rng, name, rows, k)
    x = rng.standard_normal((cols, k), dtype=np.float32)
    y = unset(cols, rows + 1)
    launch(
        "linear_tile",
        wave,
        (ceil_div(rows, 64), ceil_div(cols, 64) + 1),
        name,
        y=y,
        w=Memory(w),
        x=Memory(padded(x)),
        num_columns=count(cols),
        row_bytes=w.shape[-1],
        x_stride=padded(x).shape[1],
        y_stride=rows + 1,
        rows=rows,
        k=k,
    )
    bound = k * UNIT_ROUNDOFF * (np.abs(x) @ np.abs(decode(name, w)).T)
    assert np.all(np.abs(y.array[:, :rows] - x.astype(np.float64) @ decode(name, w).T) <= bound)
    assert np.isnan(y.array[:, rows:]).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("operation", ["linear_q8", "linear_float"])
def test_a_column_meets_the_matrix_and_the_row_it_names(operation: str, wave: int) -> None:
    rng = np.random.default_rng(5)
    experts, rows, k, tokens = 3, 19, 64, 4
    w = random_weights(rng, "Q5_1", experts * rows, k)
    x = rng.standard_normal((tokens, k), dtype=np.float32)
    if operation == "linear_q8":
        x = quantize(x)
    matrix = np.array([2, 0, 0, 1, 2], np.int32)
    row = np.array([3, 0, 3, 1, 1], np.int32)
    y = unset(5, rows)
    launch(
        operation,
        wave,
        (ceil_div(rows, THREADS // wave), 5),
        "Q5_1_c1",
        y=y,
        w=Memory(w),
        x=Memory(x),
        num_columns=count(5),
        column_matrix=Memory(matrix),
        column_row=Memory(row),
        matrix_bytes=rows * w.shape[1],
        row_bytes=w.shape[1],
        x_stride=x.strides[0],
        y_stride=rows,
        rows=rows,
        k=k,
    )
    for column in range(5):
        of_matrix = w[matrix[column] * rows : (matrix[column] + 1) * rows]
        alone = few(operation, "Q5_1", wave, of_matrix, x[row[column]][None].copy(), k, 1)
        assert np.array_equal(y.array[column], alone[0])


@pytest.mark.parametrize("wave", WAVES)
def test_tiles_of_several_matrices_take_their_own_columns(wave: int) -> None:
    rng = np.random.default_rng(6)
    rows, k, tokens = 5, 64, 80
    begin = np.array([0, 70, 70, 71, 90], np.int32)  # one matrix has no column
    w = random_weights(rng, "Q4_0", 4 * rows, k)
    x = rng.standard_normal((tokens, k), dtype=np.float32)
    source = rng.integers(0, tokens, 90).astype(np.int32)
    y = unset(92, rows)
    launch(
        "linear_tile",
        wave,
        (1, 2, 4),
        "Q4_0",
        y=y,
        w=Memory(w),
        x=Memory(x),
        num_columns=count(90),
        matrix_begin=Memory(begin),
        column_row=Memory(source),
        matrix_bytes=rows * w.shape[1],
        row_bytes=w.shape[1],
        x_stride=k,
        y_stride=rows,
        rows=rows,
        k=k,
    )
    matrix = np.repeat(np.arange(4), np.diff(begin))
    weights = decode("Q4_0", w).reshape(4, rows, k)[matrix]
    exact = np.einsum("crk,ck->cr", weights, x[source].astype(np.float64))
    bound = k * UNIT_ROUNDOFF * np.einsum("crk,ck->cr", np.abs(weights), np.abs(x[source]))
    assert np.all(np.abs(y.array[:90] - exact) <= bound)
    assert np.isnan(y.array[90:]).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("columns", COLUMNS)
def test_columns_beyond_the_count_are_left_alone(columns: int, wave: int) -> None:
    rng = np.random.default_rng(7)
    w = random_weights(rng, "Q4_K", 9, 256)
    x = quantize(rng.standard_normal((10, 256), dtype=np.float32))
    for cols in (0, 1, 5):
        y = few("linear_q8", "Q4_K", wave, w, x, 256, columns, num_columns=count(cols))
        assert np.isfinite(y[:cols]).all()
        assert np.isnan(y[cols:]).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_bad_activation_spoils_its_column_and_no_other(bad: float, wave: int) -> None:
    rng = np.random.default_rng(8)
    w = random_weights(rng, "Q6_K", 9, 512)
    x = rng.standard_normal((4, 512), dtype=np.float32)
    good = few("linear_q8", "Q6_K", wave, w, quantize(x), 512, 4)
    x[2, 300] = bad
    y = few("linear_q8", "Q6_K", wave, w, quantize(x), 512, 4)
    assert np.isnan(y[2]).all()
    assert np.array_equal(np.delete(y, 2, 0), np.delete(good, 2, 0))


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", FORMATS)
def test_embedding_rows_are_decoded_bit_for_bit(name: str, wave: int) -> None:
    k = {256: 1280, 32: 96, 1: 1027}[block_weights(name)]
    rng = np.random.default_rng(9)
    table = random_weights(rng, name, 6, k)
    ids = np.array([5, 0, 0, 3], np.int32)
    y = unset(6, k)
    launch(
        "embed",
        wave,
        (6, ceil_div(k, ROW_PIECE)),
        name,
        y=y,
        table=Memory(table),
        token_ids=Memory(np.append(ids, [99, 99]).astype(np.int32)),
        num_tokens=count(4),
        row_bytes=table.shape[1],
        n=k,
    )
    assert np.array_equal(y.array[:4], decode(name, table)[ids])
    assert np.isnan(y.array[4:]).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", QUANTIZED)
def test_every_quant_and_scale_is_unpacked_exactly(name: str, wave: int) -> None:
    """A unit vector picks one weight: the product is it, times the vector's scale."""
    rng = np.random.default_rng(10)
    k = max(block_weights(name), 32)
    w = random_weights(rng, name, 64, k)
    x = quantize(np.eye(k, dtype=np.float32))
    y = few("linear_q8", name, wave, w, x, k, 8)
    quant = np.float32(127) * (np.float32(1) / np.float32(127)).astype(np.float64)
    bound = 4 * UNIT_ROUNDOFF * magnitude(name, w).T
    assert np.all(np.abs(y - decode(name, w).T * quant) <= bound)


def test_the_layout_of_a_quantized_row() -> None:
    assert [row_bytes(k) for k in (32, 64, 96, 256)] == [48, 80, 128, 320]
