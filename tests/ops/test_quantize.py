"""Activation quantization: every ISA against NumPy, byte by byte."""

from __future__ import annotations

import numpy as np
import pytest
from linear_cases import Q8

from rocmforge import _native, errors

SIZE = 32


def quantized(x: np.ndarray) -> np.ndarray:
    """The definition, in NumPy float32: same operations, so the same bits."""
    groups = x.reshape(-1, SIZE)
    largest = np.abs(groups).max(1)
    finite = np.isfinite(groups).all(1)
    with np.errstate(all="ignore"):
        d = largest / np.float32(127)
        usable = finite & (d >= np.finfo(np.float32).tiny)
        scaled = groups * (np.float32(127) / largest)[:, None]
        qs = np.rint(np.where(usable[:, None], scaled, 0)).astype(np.int8)
    blocks = np.zeros(len(groups), Q8)
    blocks["d"] = np.where(finite, np.where(usable, d, np.float32(0)), np.float32(np.nan))
    blocks["qs"] = qs
    halves = qs.reshape(-1, 2, 16).sum(2)
    sums = np.concatenate([halves, halves.sum(1, keepdims=True)], 1)
    blocks["sums"], blocks["offsets"] = sums, -128 * sums
    return blocks.view(np.uint8)


@pytest.mark.parametrize("exponent", [-149, -140, -126, -122, -119, -60, 0, 60, 127])
def test_blocks_are_those_of_the_definition(isa: str, exponent: int) -> None:
    rng = np.random.default_rng(exponent + 200)
    x = (rng.uniform(-2, 2, 256 * 40) * 2.0**exponent / 2).astype(np.float32)
    assert np.array_equal(_native.cpu.quantize(x, isa), quantized(x))


@pytest.mark.parametrize("num_values", [256, 512, 768, 4096])
def test_any_number_of_blocks_is_quantized(isa: str, num_values: int) -> None:
    x = np.random.default_rng(num_values).normal(size=(3, num_values)).astype(np.float32)
    blocks = _native.cpu.quantize(x, isa)
    assert np.array_equal(blocks.reshape(-1), quantized(x))


def test_ties_go_to_the_even_neighbour(isa: str) -> None:
    """With a largest value of 127 the scale is 1, so halves are exact ties."""
    x = np.resize(np.array([127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5], np.float32), SIZE)
    blocks = _native.cpu.quantize(x, isa).view(Q8)
    assert blocks["d"] == 1
    assert blocks["qs"][0, :8].tolist() == [127, 0, 2, 2, 0, -2, -2, 126]


def test_a_value_moves_by_at_most_half_a_step(isa: str) -> None:
    """The bound of quant/activations.hpp."""
    rng = np.random.default_rng(5)
    x = (rng.normal(size=256 * 200) * 2.0 ** rng.integers(-30, 30, 256 * 200)).astype(np.float32)
    blocks = _native.cpu.quantize(x, isa).view(Q8)
    d = blocks["d"].astype(np.float64)[:, None]
    error = np.abs(x.reshape(-1, SIZE) - d * blocks["qs"])
    assert np.all(error <= d * (0.5 + 2.0**-15))
    assert np.abs(blocks["qs"].astype(int)).max() == 127


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 17, 31])
def test_a_value_that_is_not_finite_makes_its_block_nan(isa: str, bad: float, place: int) -> None:
    x = np.random.default_rng(6).normal(size=3 * SIZE).astype(np.float32)
    clean = _native.cpu.quantize(x, isa).view(Q8)
    x[SIZE + place] = bad
    blocks = _native.cpu.quantize(x, isa).view(Q8)
    assert np.isnan(blocks["d"][1])
    assert not blocks["qs"][1].any()
    assert blocks[[0, 2]].tobytes() == clean[[0, 2]].tobytes()


def test_zeros_and_values_too_small_for_a_normal_scale_become_zero(isa: str) -> None:
    for value in (0.0, -0.0, 1e-45, 126 * 2.0**-126):
        assert not _native.cpu.quantize(np.full(SIZE, value, np.float32), isa).any()
    assert _native.cpu.quantize(np.full(SIZE, 128 * 2.0**-126, np.float32), isa).any()


def test_a_partial_block_is_refused() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="rows of 33 values"):
        _native.cpu.quantize(np.zeros((2, 33), np.float32))
