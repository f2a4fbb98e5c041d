"""Norm, activation, rope, addition and cache stores, every ISA against float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from paged_attention import to_bf16, to_q8_0

from rocmforge import _native

EPS = float(np.finfo(np.float32).eps)
LENGTHS = [1, 7, 8, 15, 16, 17, 33, 64, 100, 2048]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("magnitude", [1e-12, 1.0, 1e12])
def test_rms_norm_matches_float64(isa: str, n: int, magnitude: float) -> None:
    rng = np.random.default_rng(n)
    x = (rng.normal(size=n) * magnitude).astype(np.float32)
    weight = rng.normal(size=n).astype(np.float32)

    y = _native.cpu.rms_norm(x, weight, 1e-5, isa=isa)

    wide = x.astype(np.float64)
    expected = wide / np.sqrt(np.mean(wide**2) + 1e-5) * weight
    # A sum of n positive terms is off by at most n * eps of itself, half of which reaches the
    # root; sqrt, division and two products round once each.
    assert np.all(np.abs(y - expected) <= (n / 2 + 6) * EPS * np.abs(expected))


@pytest.mark.parametrize("n", LENGTHS)
def test_silu_mul_matches_float64(isa: str, n: int) -> None:
    rng = np.random.default_rng(n)
    gate = (rng.normal(size=n) * 10).astype(np.float32)
    up = rng.normal(size=n).astype(np.float32)

    y = _native.cpu.silu_mul(gate, up, isa=isa)

    expected = gate / (1 + np.exp(-gate.astype(np.float64))) * up
    # exp(-gate) is good to 4 eps, which the quotient can at most inherit; an addition, a division
    # and a product round once each.
    assert np.all(np.abs(y - expected) <= 8 * EPS * np.abs(expected) + 1e-38)


def test_silu_saturates_instead_of_becoming_nan(isa: str) -> None:
    gate = np.array([-3e38, -1000, -89, -88, 0, 88, 89, 1000, 3e38] * 4, np.float32)
    y = _native.cpu.silu_mul(gate, np.ones_like(gate), isa=isa)
    expected = np.where(gate > 0, gate, 0).astype(np.float32)
    assert np.allclose(y, expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("n", LENGTHS)
def test_silu_of_nan_is_nan_and_stays_in_its_lane(isa: str, n: int) -> None:
    gate = np.ones(n, np.float32)
    gate[n // 2] = np.nan
    y = _native.cpu.silu_mul(gate, np.ones(n, np.float32), isa=isa)
    assert np.array_equal(np.isnan(y), np.isnan(gate))


@pytest.mark.parametrize("n", LENGTHS)
def test_add_is_exact(isa: str, n: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(2, n)).astype(np.float32)
    assert np.array_equal(_native.cpu.add(y, x, isa=isa), y + x)


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize(("head_dim", "rotary"), [(2, 2), (64, 64), (80, 32), (128, 126)])
def test_rope_rotates_pairs_and_leaves_the_rest(
    isa: str, head_dim: int, rotary: int, interleaved: bool
) -> None:
    rng = np.random.default_rng(head_dim)
    head = rng.normal(size=head_dim).astype(np.float32)
    angle = rng.uniform(-3, 3, rotary // 2)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

    y = _native.cpu.rope(head, cos, sin, interleaved, isa=isa)

    half = rotary // 2
    first = np.arange(half) * 2 if interleaved else np.arange(half)
    second = first + 1 if interleaved else first + half
    turned = (head[first] + 1j * head[second]).astype(np.complex128) * (cos + 1j * sin)
    expected = head.astype(np.float64)
    expected[first], expected[second] = turned.real, turned.imag
    assert np.all(np.abs(y - expected) <= 3 * EPS * np.abs(head).max())
    assert np.array_equal(y[rotary:], head[rotary:])


@pytest.mark.parametrize("n", LENGTHS)
def test_cache_stores_round_to_nearest_even(isa: str, n: int) -> None:
    rng = np.random.default_rng(n)
    # Normal halves, halves' subnormals, ties, and what overflows.
    x = np.concatenate([rng.normal(size=n), rng.normal(size=n) * 1e-6, rng.normal(size=n) * 1e5])
    x = np.concatenate([x, [0.0, -0.0, 65519.9, 65520.0, np.inf, -np.inf, 1 + 2**-11]])
    x = x.astype(np.float32)

    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    assert np.array_equal(_native.cpu.store_kv(x, "f16", isa=isa).view(np.float16), expected)
    assert np.array_equal(_native.cpu.store_kv(x, "f32", isa=isa).view(np.float32), x)


def test_bf16_stores_round_to_nearest_even_and_keep_nan(isa: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2**32, 10001, dtype=np.uint32).view(np.float32)
    ties = (np.arange(2**12, dtype=np.uint32) << 20 | 0x8000).view(np.float32)
    x = np.concatenate([x, ties, np.float32([0.0, -0.0, np.inf, -np.inf, 3.4028235e38])])
    nan = np.isnan(x)
    got = _native.cpu.store_kv(x, "bf16", isa=isa).view(np.uint16)
    assert np.array_equal(got[~nan], to_bf16(x[~nan]))
    assert np.all(got[nan] & 0x7FFF > 0x7F80)


def test_q8_0_stores_are_those_of_numpy(isa: str) -> None:
    rng = np.random.default_rng(0)
    # Scales from zero over float16's subnormals to its largest.
    x = rng.normal(size=(400, 32)) * 10.0 ** rng.uniform(-9, 6, (400, 1))
    x[:3], x[3, 1:] = 0, 0
    x = x.astype(np.float32)
    blocks = _native.cpu.store_kv(x.ravel(), "q8_0", isa=isa).reshape(400, 34)
    scales, quants = to_q8_0(x)
    assert np.array_equal(blocks[:, :2].copy().view(np.float16), scales)
    assert np.array_equal(blocks[:, 2:].view(np.int8), quants[:, 0])
    normal = np.abs(x).max(1) > 127 * 2.0**-14
    error = np.abs(x - scales.astype(np.float64) * quants[:, 0])[normal]
    # Half a step, and the roundings of the inverse and of the product.
    assert np.all(error <= scales[normal] * (0.5 + 127 * 2.0**-22))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e7])
def test_what_q8_0_cannot_hold_is_not_finite(isa: str, bad: float) -> None:
    x = np.ones(96, np.float32)
    x[40] = bad
    blocks = _native.cpu.store_kv(x, "q8_0", isa=isa).reshape(3, 34)
    scales = blocks[:, :2].copy().view(np.float16).ravel()
    assert np.isfinite(scales).tolist() == [True, False, True]


def test_every_half_survives_the_cache(isa: str) -> None:
    halves = np.arange(2**16, dtype=np.uint16)
    halves = halves[~np.isnan(halves.view(np.float16))]
    x = halves.view(np.float16).astype(np.float32)
    assert np.array_equal(_native.cpu.store_kv(x, "f16", isa=isa).view(np.uint16), halves)
