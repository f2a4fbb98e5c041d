"""Layer norm, the activations of feed-forward networks, scales and caps: every ISA against float64
NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rocmforge import _native

EPS = float(np.finfo(np.float32).eps)
LENGTHS = [1, 7, 8, 15, 16, 17, 33, 100, 2048]
A = _native.Activation


def sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def gelu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def oai(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    gate = np.minimum(gate, 7)
    return gate * sigmoid(1.702 * gate) * (np.clip(up, -7, 7) + 1)


GATED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "SILU_GATED": lambda gate, up: gate * sigmoid(gate) * up,
    "GELU_GATED": lambda gate, up: gelu(gate) * up,
    "OAI_GATED": oai,
}


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_layer_norm_matches_float64(isa: str, n: int, offset: float) -> None:
    rng = np.random.default_rng(n)
    x = (rng.normal(size=n) + offset).astype(np.float32)
    weight, bias = rng.normal(size=(2, n)).astype(np.float32)

    y = _native.cpu.layer_norm(x, weight, bias, 1e-5, isa=isa)

    wide = x.astype(np.float64)
    shifted = wide - wide.mean()
    deviation = np.sqrt(shifted.var() + 1e-5)
    expected = shifted / deviation * weight + bias
    # The mean is off by n eps / 2 of the largest x at most, and with it each difference; the sum of
    # squares by n eps of itself, half of which reaches the root; six roundings more.
    size = np.abs(shifted) * (n / 2 + 6) + (n / 2 + 1) * np.abs(x).max()
    assert np.all(np.abs(y - expected) <= EPS * (size / deviation * np.abs(weight) + np.abs(bias)))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("kind", GATED)
def test_gated_activations_match_float64(isa: str, kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    gate = (rng.normal(size=n) * 6).astype(np.float32)
    up = (rng.normal(size=n) * 6).astype(np.float32)

    y = _native.cpu.activate(getattr(A, kind), np.concatenate([gate, up]), isa=isa)

    expected = GATED[kind](gate.astype(np.float64), up.astype(np.float64))
    # An exponential is good to 4 eps and to the rounding of its argument, of size up to |16 gate^3|
    # for gelu, below which it vanishes; what is added to `up` may cancel.
    argument = np.minimum(np.abs(gate) ** 3, 90) + 10
    size = np.abs(expected) + (
        np.abs(GATED[kind](np.abs(gate), np.ones(n))) if kind == "OAI_GATED" else 0
    )
    assert np.all(np.abs(y - expected) <= argument * EPS * size + 1e-30)


@pytest.mark.parametrize("n", LENGTHS)
def test_gelu_matches_float64(isa: str, n: int) -> None:
    x = (np.random.default_rng(n).normal(size=n) * 3).astype(np.float32)
    y = _native.cpu.activate(A.GELU, x, isa=isa)
    expected = gelu(x.astype(np.float64))
    argument = np.minimum(np.abs(x) ** 3, 90) + 10
    assert np.all(np.abs(y - expected) <= argument * EPS * np.abs(expected) + 1e-30)


@pytest.mark.parametrize("n", LENGTHS)
def test_squares_of_what_is_positive_round_once(isa: str, n: int) -> None:
    x = np.random.default_rng(n).normal(size=n).astype(np.float32)
    y = _native.cpu.activate(A.RELU_SQUARED, x, isa=isa)
    assert np.array_equal(y, np.maximum(x, 0) ** 2)
    x[n // 2] = np.nan
    y = _native.cpu.activate(A.RELU_SQUARED, x, isa=isa)
    assert np.flatnonzero(np.isnan(y)).tolist() == [n // 2]


@pytest.mark.parametrize("kind", [*GATED, "GELU"])
def test_activations_saturate_and_keep_a_nan_in_its_lane(isa: str, kind: str) -> None:
    gate = np.array([-3e38, -1e4, -89, 0, 89, 1e4, 3e37] * 3, np.float32)
    up = np.zeros_like(gate) if kind == "OAI_GATED" else np.ones_like(gate)
    x = gate if kind == "GELU" else np.concatenate([gate, up])
    limit = 7 if kind == "OAI_GATED" else np.inf
    expected = np.clip(gate, 0, limit)
    y = _native.cpu.activate(getattr(A, kind), x, isa=isa)
    assert np.allclose(y, expected, rtol=1e-4, atol=1e-30)
    x[5] = np.nan
    y = _native.cpu.activate(getattr(A, kind), x, isa=isa)
    assert np.flatnonzero(np.isnan(y)).tolist() == [5]


def test_gpt_oss_clips_the_second_projection_on_both_sides(isa: str) -> None:
    up = np.array([-100, -7, 0, 7, 100, np.nan], np.float32)
    x = np.concatenate([np.full(6, 3, np.float32), up])
    y = _native.cpu.activate(A.OAI_GATED, x, isa=isa)
    expected = oai(np.full(5, 3.0), up[:5].astype(np.float64))
    assert np.allclose(y[:5], expected, rtol=1e-6)
    assert np.isnan(y[5])


@pytest.mark.parametrize("n", LENGTHS)
def test_scaling_rounds_once(isa: str, n: int) -> None:
    x = np.random.default_rng(n).normal(size=n).astype(np.float32)
    assert np.array_equal(_native.cpu.scale(x, 0.3, isa=isa), x * np.float32(0.3))


@pytest.mark.parametrize("n", LENGTHS)
def test_soft_cap_matches_float64(isa: str, n: int) -> None:
    x = (np.random.default_rng(n).normal(size=n) * 40).astype(np.float32)
    y = _native.cpu.soft_cap(x, 30.0, isa=isa)
    expected = 30 * np.tanh(x.astype(np.float64) / 30)
    # Near zero the tangent is the difference of two ones.
    assert np.all(np.abs(y - expected) <= 30 * 8 * EPS)


def test_soft_cap_keeps_infinities_within_and_nan_as_it_is(isa: str) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 3e38, -3e38] * 5, np.float32)
    y = _native.cpu.soft_cap(x, 30.0, isa=isa)
    expected = np.array([30, -30, np.nan, 30, -30] * 5, np.float32)
    assert np.array_equal(y, expected, equal_nan=True)
