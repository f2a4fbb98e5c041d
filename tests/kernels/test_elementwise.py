"""Norms, activations, additions, gathers and quantization: every row-wise kernel alone."""

from __future__ import annotations

import numpy as np
import pytest
from host_kernels import ROW_PIECE, THREADS, WAVES, Memory, ceil_div, count, launch, unset
from linear_cases import UNIT_ROUNDOFF
from quantized import quantize, row_bytes

SIZES = (1, 6, 32, 1000, 1024, 1028, 3072)
SIZES_Q8 = (32, 96, 1024, 2080)


def normal(rows: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, rows, n]).standard_normal((rows, n), dtype=np.float32)


def row_grid(rows: int, n: int) -> tuple[int, int]:
    return rows, ceil_div(n, ROW_PIECE)


def unset_quantized(rows: int, n: int) -> Memory:
    return unset(rows, row_bytes(n), dtype=np.uint8)


def norm(x: np.ndarray, weight: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """float64, and how far float32 may be off.

    A thread adds n / 256 squares, then come a tree of six and a chain of eight; of the sum's error
    the square root halves. Mean, epsilon, root and its inverse round, then two products.
    """
    n = x.shape[-1]
    exact = x.astype(np.float64)
    y = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + np.float32(eps)) * weight
    return y, (n / THREADS / 2 + 16) * UNIT_ROUNDOFF * np.abs(y)


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("n", SIZES)
def test_rms_norm_matches_float64(n: int, wave: int) -> None:
    x, weight = normal(3, n), normal(1, n, seed=1)
    y = unset(4, n)
    fields = {"weight": Memory(weight), "num_rows": count(3), "n": n, "eps": 1e-5}
    launch("rms_norm", wave, (4,), y=y, x=Memory(x), **fields)
    exact, bound = norm(x, weight, 1e-5)
    assert np.all(np.abs(y.array[:3] - exact) <= bound)
    assert np.isnan(y.array[3]).all()

    in_place = Memory(x)
    launch("rms_norm", wave, (3,), y=in_place, x=in_place, **fields)
    assert np.array_equal(in_place.array, y.array[:3])


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("n", SIZES_Q8)
def test_a_quantized_norm_is_the_norm_quantized(n: int, wave: int) -> None:
    x, weight = Memory(normal(3, n)), Memory(normal(1, n, seed=1))
    fields = {"x": x, "weight": weight, "num_rows": count(3), "n": n, "eps": 1e-5}
    y, kept = unset(3, n), unset(3, n)
    launch("rms_norm", wave, (3,), y=y, **fields)
    both, alone = unset_quantized(4, n), unset_quantized(4, n)
    launch("rms_norm_q8", wave, (4,), y=kept, quantized=both, **fields)
    launch("rms_norm_q8", wave, (4,), quantized=alone, **fields)
    assert np.array_equal(kept.array, y.array)
    assert np.array_equal(both.array[:3], quantize(y.array))
    assert np.array_equal(alone.array, both.array)
    assert (both.array[3] == 0xFF).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize(("heads", "head_dim"), [(1, 1), (3, 64), (9, 80), (5, 256)])
def test_heads_are_normed_alone_and_in_place(heads: int, head_dim: int, wave: int) -> None:
    stride = heads * head_dim + 7
    x, weight = normal(3, stride), normal(1, head_dim, seed=1)
    y = Memory(x)
    launch(
        "rms_norm_heads",
        wave,
        (3, ceil_div(heads, THREADS // wave)),
        x=y,
        weight=Memory(weight),
        num_rows=count(2),
        row_stride=stride,
        heads=heads,
        head_dim=head_dim,
        eps=1e-6,
    )
    of_heads = x[:2, : heads * head_dim].reshape(2, heads, head_dim)
    exact, bound = norm(of_heads, weight, 1e-6)
    result = y.array[:2, : heads * head_dim].reshape(2, heads, head_dim)
    assert np.all(np.abs(result - exact) <= bound)
    assert np.array_equal(y.array[:2, heads * head_dim :], x[:2, heads * head_dim :])
    assert np.array_equal(y.array[2], x[2])


def hard_to_quantize() -> np.ndarray:
    """Ties, signed zeros, subnormal and infinite scales, NaN."""
    x = normal(8, 128, seed=2)
    x[0] = np.arange(128) - 63.5
    x[1, :32], x[1, 32:64] = 0.0, -0.0
    x[2] *= np.float32(1e-38)
    x[3] *= np.float32(1e-44)
    x[4, 5], x[4, 40], x[4, 100] = np.inf, -np.inf, np.nan
    x[5] *= np.float32(1e37)
    x[6, 32:64] = 127.0 * 2.0**-126
    x[7] = 0.0
    return x


@pytest.mark.parametrize("wave", WAVES)
def test_quantized_activations_have_the_defined_bytes(wave: int) -> None:
    for n in SIZES_Q8:
        check_quantized(normal(3, n), wave)


@pytest.mark.parametrize("wave", WAVES)
def test_what_is_hard_to_quantize_has_the_defined_bytes(wave: int) -> None:
    check_quantized(hard_to_quantize(), wave)


def check_quantized(x: np.ndarray, wave: int) -> None:
    rows, n = x.shape
    y = unset_quantized(rows + 1, n)
    launch("quantize", wave, row_grid(rows + 1, n), y=y, x=Memory(x), num_rows=count(rows), n=n)
    assert np.array_equal(y.array[:rows], quantize(x))
    assert (y.array[rows] == 0xFF).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("n", SIZES)
def test_silu_mul_matches_float64(n: int, wave: int) -> None:
    x = normal(3, 2 * n) * np.float32(4)
    x[0, 0], x[1, 0], x[2, 0] = 100.0, -100.0, 0.0
    y = unset(4, n)
    launch("silu_mul", wave, row_grid(4, n), y=y, x=Memory(x), num_rows=count(3), n=n)
    gate, up = x[:, :n].astype(np.float64), x[:, n:].astype(np.float64)
    exact = gate / (1 + np.exp(-gate)) * up
    # exp to 4 roundings, then a sum, a quotient and a product; where exp overflows the result is 0
    # instead of less than 100 * e^-88.
    bound = 7 * UNIT_ROUNDOFF * np.abs(exact) + 1e-36 * np.abs(up)
    assert np.all(np.abs(y.array[:3] - exact) <= bound)
    assert np.isnan(y.array[3]).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("n", SIZES_Q8)
def test_a_quantized_silu_mul_is_the_silu_mul_quantized(n: int, wave: int) -> None:
    x = Memory(normal(3, 2 * n))
    y, quantized = unset(3, n), unset_quantized(4, n)
    launch("silu_mul", wave, row_grid(3, n), y=y, x=x, num_rows=count(3), n=n)
    launch("silu_mul_q8", wave, row_grid(4, n), quantized=quantized, x=x, num_rows=count(3), n=n)
    assert np.array_equal(quantized.array[:3], quantize(y.array))
    assert (quantized.array[3] == 0xFF).all()


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("n", SIZES)
def test_sums_and_biases_are_float32_sums(n: int, wave: int) -> None:
    x, start = normal(3, n), normal(4, n, seed=1)
    for operation, added in (("add", x), ("add_bias", x[:1])):
        y = Memory(start)
        launch(operation, wave, row_grid(4, n), y=y, x=Memory(added), num_rows=count(3), n=n)
        assert np.array_equal(y.array[:3], start[:3] + added)
        assert np.array_equal(y.array[3], start[3])


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("n", SIZES)
def test_rows_are_gathered_in_the_order_asked_for(n: int, wave: int) -> None:
    x, rows = normal(5, n), np.array([4, 0, 0, 2, 99], np.int32)
    y = unset(5, n)
    launch(
        "gather_rows",
        wave,
        row_grid(5, n),
        y=y,
        x=Memory(x),
        rows=Memory(rows),
        num_rows=count(4),
        n=n,
    )
    assert np.array_equal(y.array[:4], x[rows[:4]])
    assert np.isnan(y.array[4]).all()
