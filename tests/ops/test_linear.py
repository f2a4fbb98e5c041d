"""Matrix products, every format and ISA against float64 NumPy over weights that `gguf` decodes.

A quantized product is compared with the float64 product of the quantized activations: the
integer parts are exact, so only float32 rounding may differ. How far quantizing itself moves an
activation is test_quantize.py's.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from linear_cases import (
    SCALE_FIELDS,
    Shape,
    block_weights,
    decode,
    decode_activations,
    has_float_activations,
    magnitude,
    random_weights,
    rounding_bound,
    set_scales,
)

from reference.blocks import FORMATS
from rocmforge import _native

NUM_SHAPES = 100
QUANTIZED = [name for name in FORMATS if not has_float_activations(name)]


def float_roundings(k: int) -> float:
    """The largest of the bounds stated in linear_float.cpp, panel/float_body.hpp and
    scalar/linear.cpp: eight lanes of fused multiply-adds and three additions (AVX2), a chain over
    each chunk of 256 whose sums are added (panels), or one product, sixteen additions and four of a
    tree for each chunk (scalar)."""
    return max(k / 8 + 24, min(k, 256) + k / 256 + 2)


def quantized_roundings(k: int) -> float:
    """The larger of the bounds stated in panel/multiply_body.hpp and scalar/linear.cpp."""
    return k / 32 + 8


def activations_used(name: str, activations: str, x: np.ndarray) -> np.ndarray:
    if activations == "float" or has_float_activations(name):
        return x.astype(np.float64)
    return decode_activations(_native.cpu.quantize(x))


@cache
def shapes(name: str) -> list[Shape]:
    """Every number of blocks up to 16, every width of column tile, rows on both sides of one."""
    rng = np.random.default_rng(block_weights(name))
    unit = max(32, block_weights(name))
    chosen = []
    for i in range(NUM_SHAPES):
        k = (1 + i % 16) * unit
        if block_weights(name) == 1 and i % 4 != 0:
            k += int(rng.integers(1, unit))
        cols = int(rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 17]))
        chosen.append(Shape(int(rng.choice([1, 3, 8, 13, 33])), cols, k))
    chosen.append(Shape(5, 65, 2 * unit))
    chosen.append(Shape(5, 512, unit))  # more than the panels' kernels take at a time
    chosen.append(Shape(9, 2, 40 * 256 + (0 if unit == 256 else unit)))
    return chosen


@cache
def case(name: str, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, activations and the float64 product of a shape: the same for every ISA."""
    rows, cols, k = shapes(name)[index]
    rng = np.random.default_rng(index)
    w = random_weights(rng, name, rows, k)
    x = rng.normal(size=(cols, k)).astype(np.float32)
    return w, x, x.astype(np.float64) @ decode(name, w).T


@pytest.mark.parametrize("name", FORMATS)
def test_float_activations_match_float64(isa: str, name: str) -> None:
    for index, shape in enumerate(shapes(name)):
        w, x, expected = case(name, index)
        y = _native.cpu.linear(name, w, x, isa, "float")
        bound = rounding_bound(float_roundings(shape.k), decode(name, w), x)
        assert np.all(np.abs(y - expected) <= bound), shape


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_activations_match_float64_over_the_quantized_values(isa: str, name: str) -> None:
    for index, shape in enumerate(shapes(name)):
        w, x, _ = case(name, index)
        quantized = decode_activations(_native.cpu.quantize(x, isa))
        y = _native.cpu.linear(name, w, x, isa)
        bound = rounding_bound(quantized_roundings(shape.k), magnitude(name, w), quantized)
        assert np.all(np.abs(y - quantized @ decode(name, w).T) <= bound), shape


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("code", [0x00, 0xFF, 0x80, 0x7F])
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_quants_do_not_saturate(isa: str, name: str, code: int, sign: int) -> None:
    """Every pair of products at its largest, in the direction that would overflow 16 bits."""
    w = np.full_like(random_weights(np.random.default_rng(0), name, 2, 1024), code)
    if name in SCALE_FIELDS:
        blocks = w.reshape(2, 1024 // block_weights(name), -1)
        set_scales(name, blocks, 0.5)
    else:
        w.reshape(2, -1, 17)[..., 0] = 127
    x = np.full((5, 1024), 3.0 * sign, np.float32)
    y = _native.cpu.linear(name, w, x, isa)
    bound = rounding_bound(quantized_roundings(1024) + 2, magnitude(name, w), x)
    assert np.all(np.abs(y - x.astype(np.float64) @ decode(name, w).T) <= bound)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("activations", ["auto", "float"])
def test_zero_weights_or_activations_give_exact_zeros(
    isa: str, name: str, activations: str
) -> None:
    rng = np.random.default_rng(1)
    w = random_weights(rng, name, 9, 1280)
    x = rng.normal(size=(5, 1280)).astype(np.float32)
    assert not _native.cpu.linear(name, w, np.zeros_like(x), isa, activations).any()
    if name in SCALE_FIELDS:
        set_scales(name, w.reshape(9, 1280 // block_weights(name), -1), 0.0)
        assert not _native.cpu.linear(name, w, x, isa, activations).any()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("activations", ["auto", "float"])
@pytest.mark.parametrize(
    ("weight_scale", "activation_scale"),
    [(6e-8, 1.0), (6e-8, 1e-30), (4e4, 1e30), (4e4, 1e-30), (0.1, 1e34), (0.1, 1e-37)],
)
def test_extreme_scales_keep_their_precision(
    isa: str, name: str, activations: str, weight_scale: float, activation_scale: float
) -> None:
    """Subnormal and near-overflow block scales, up to the edge of what float32 can hold."""
    rng = np.random.default_rng(2)
    k = 1024
    w = random_weights(rng, name, 3, k, weight_scale)
    x = (rng.normal(size=(3, k)) * activation_scale).astype(np.float32)
    y = _native.cpu.linear(name, w, x, isa, activations)
    used = activations_used(name, activations, x)
    bound = rounding_bound(float_roundings(k), magnitude(name, w), used)
    expected = used @ decode(name, w).T
    fits = np.abs(used) @ magnitude(name, w).T < np.finfo(np.float32).max / 2
    assert fits.any() or weight_scale * activation_scale > 1e30
    assert np.all(np.abs(y - expected)[fits] <= bound[fits])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("activations", ["auto", "float"])
def test_random_bytes_as_blocks_agree_wherever_the_result_is_finite(
    isa: str, name: str, activations: str
) -> None:
    """Block scales are then infinite, NaN or subnormal as often as not."""
    rng = np.random.default_rng(3)
    k = 512
    w = rng.integers(0, 256, (400, len(random_weights(rng, name, 1, k)[0])), dtype=np.uint8)
    x = rng.normal(size=(3, k)).astype(np.float32)
    y = _native.cpu.linear(name, w, x, isa, activations)
    used = activations_used(name, activations, x)
    with np.errstate(all="ignore"):
        size = np.abs(used) @ magnitude(name, w).T
        expected = used @ decode(name, w).T
        bound = rounding_bound(float_roundings(k), magnitude(name, w), used)
        # Integer dots, of activations up to 127, are scaled by the weight's scale first.
        largest = np.maximum(size, 127 * magnitude(name, w).sum(1))
        fits = largest < np.finfo(np.float32).max / 2
        assert np.all(np.abs(y - expected)[fits] <= bound[fits])
        if name != "MXFP4":  # has no NaN; its largest weights overflow float32 only when decoded
            assert not np.isfinite(y[np.isnan(expected)]).any()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("activations", ["auto", "float"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_activation_spoils_its_own_column_and_no_other(
    isa: str, name: str, activations: str, bad: float
) -> None:
    rng = np.random.default_rng(4)
    w = random_weights(rng, name, 9, 1280)
    x = rng.normal(size=(9, 1280)).astype(np.float32)
    clean = _native.cpu.linear(name, w, x, isa, activations)
    x[4, 700] = bad
    y = _native.cpu.linear(name, w, x, isa, activations)
    assert not np.isfinite(y[4]).any()
    assert np.array_equal(np.delete(y, 4, 0), np.delete(clean, 4, 0))
