"""Fused products against float64: deferred norms, biases, activation, residual, quantization."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from host_kernels import THREADS, WAVES, Memory, ceil_div, launch, struct, unset
from linear_cases import (
    UNIT_ROUNDOFF,
    block_weights,
    decode,
    has_float_activations,
    magnitude,
    random_weights,
)
from quantized import dequantize, quantize, row_bytes
from step_formats import STEP_FORMATS

from reference.blocks import FORMATS

EPS = 1e-5
COLUMNS = (1, 4)
RESIDUAL_THREADS = 512


class Case:
    """Columns of x, its norm's statistics, and products with them in float64 with their bounds."""

    def __init__(self, columns: int, k: int, floats: bool, seed: int = 0) -> None:
        self.rng = np.random.default_rng([seed, columns, k])
        x = self.rng.standard_normal((columns, k), dtype=np.float32) * 3
        self.columns, self.k = columns, k
        self.squares = (x.reshape(columns, -1, 32) ** 2).sum(-1)
        data = x if floats else quantize(x)
        self.memory, self.squares_memory = Memory(data), Memory(self.squares)
        self.x = x.astype(np.float64) if floats else dequantize(data, k)

    def fields(self, *, normed: bool) -> ctypes.Structure:
        return struct(
            "StepInput",
            x=self.memory.address,
            squares=self.squares_memory.address if normed else None,
            columns=self.columns,
            k=self.k,
            eps=EPS,
        )

    def scale(self) -> np.ndarray:
        mean = self.squares.astype(np.float64).sum(-1) / self.k
        return 1 / np.sqrt(mean + np.float32(EPS))[:, None]

    def product(self, name: str, w: np.ndarray, wave: int) -> tuple[np.ndarray, np.ndarray]:
        # The lanes' chunks, the pieces' roundings, a tree, and a scale of few roundings.
        steps = self.k / wave if has_float_activations(name) else ceil_div(self.k // 16, wave)
        relative = (steps + 24 + self.k / 32 / wave + 8) * UNIT_ROUNDOFF
        size = np.abs(decode(name, w)) if has_float_activations(name) else magnitude(name, w)
        return self.x @ decode(name, w).T, relative * (np.abs(self.x) @ size.T)


def matrix(name: str, w: Memory) -> ctypes.Structure:
    rows, nbytes = w.array.shape
    return struct("StepMatrix", w=w.address, row_bytes=nbytes, rows=rows, format=STEP_FORMATS[name])


def project(
    case: Case, parts: list[tuple[str, Memory]], wave: int, c: int, *, normed: bool, bias: Memory
) -> np.ndarray:
    rows = [len(w.array) for _, w in parts]
    y = unset(case.columns, sum(rows) + 3)
    names = ("first", "second", "third")
    blocks = sum(ceil_div(n, THREADS // wave * (4 if c == 1 else 2)) for n in rows)
    launch(
        "step_project",
        wave,
        (blocks, ceil_div(case.columns, c)),
        f"c{c}",
        y=y,
        bias=bias,
        **{"in": case.fields(normed=normed)},
        y_stride=y.array.shape[1],
        **{key: matrix(*part) for key, part in zip(names, parts, strict=False)},
    )
    assert np.isnan(y.array[:, sum(rows) :]).all()
    return y.array[:, : sum(rows)]


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize(
    "formats",
    [["Q4_K", "Q4_K", "Q6_K"], ["Q5_K"], ["Q8_0", "Q5_0", "Q4_0"], ["F16", "F16"]],
    ids="-".join,
)
def test_projections_of_several_formats_match_float64(formats: list[str], wave: int) -> None:
    floats = has_float_activations(formats[0])
    for k in (256, 2304) if block_weights(formats[0]) == 256 else (32, 1120):
        case = Case(5, k, floats)
        sizes = [37, 5, 18][: len(formats)]
        weights = [random_weights(case.rng, f, n, k) for f, n in zip(formats, sizes, strict=True)]
        parts = [(f, Memory(w)) for f, w in zip(formats, weights, strict=True)]
        bias = case.rng.standard_normal(sum(sizes), dtype=np.float32)
        for normed in (False, True):
            results = [
                project(case, parts, wave, c, normed=normed, bias=Memory(bias)) for c in COLUMNS
            ]
            products = [case.product(f, w, wave) for f, w in zip(formats, weights, strict=True)]
            scale = case.scale() if normed else 1.0
            exact = np.concatenate([p for p, _ in products], -1) * scale + bias
            bound = np.concatenate([b for _, b in products], -1) * scale
            assert np.all(np.abs(results[0] - exact) <= bound + 2 * UNIT_ROUNDOFF * np.abs(exact))
            assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", STEP_FORMATS)
def test_gate_and_up_match_float64_and_are_quantized(name: str, wave: int) -> None:
    k, rows = (512 if block_weights(name) == 256 else 96), 64
    case = Case(5, k, has_float_activations(name), seed=1)
    gate, up = (random_weights(case.rng, name, rows, k, 0.001) for _ in range(2))
    results = []
    for c in COLUMNS:
        y = unset(5, rows)
        quantized = unset(5, row_bytes(rows), dtype=np.uint8)
        launch(
            "step_gate_up",
            wave,
            (rows // 32, ceil_div(5, c)),
            f"{name}_c{c}",
            y=y,
            quantized=quantized,
            **{"in": case.fields(normed=True)},
            gate=Memory(gate),
            up=Memory(up),
            row_bytes=gate.shape[1],
            rows=rows,
        )
        assert np.array_equal(quantized.array, quantize(y.array))
        results.append(y.array)
    (g, g_bound), (u, u_bound) = (case.product(name, w, wave) for w in (gate, up))
    g, g_bound, u, u_bound = (v * case.scale() for v in (g, g_bound, u, u_bound))
    silu = g / (1 + np.exp(-g))
    # silu is steeper than 1.1 nowhere, and its own roundings are few.
    bound = 1.1 * g_bound * (np.abs(u) + u_bound) + np.abs(silu) * u_bound
    assert np.all(np.abs(results[0] - silu * u) <= bound + 12 * UNIT_ROUNDOFF * np.abs(silu * u))
    assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", STEP_FORMATS)
def test_residuals_match_float64_and_are_ready_for_the_next_product(name: str, wave: int) -> None:
    k, rows = (768 if block_weights(name) == 256 else 160), 96
    case = Case(5, k, has_float_activations(name), seed=2)
    w = random_weights(case.rng, name, rows, k)
    before = case.rng.standard_normal((5, rows), dtype=np.float32)
    bias, weight = (case.rng.standard_normal(rows, dtype=np.float32) for _ in range(2))
    results = []
    for c in COLUMNS:
        hidden, scaled, squares = Memory(before), unset(5, rows), unset(5, rows // 32)
        quantized, weight_memory = unset(5, row_bytes(rows), dtype=np.uint8), Memory(weight)
        out = struct(
            "StepOutput",
            weight=weight_memory.address,
            quantized=quantized.address,
            scaled=scaled.address,
            squares=squares.address,
        )
        fields = {
            "bias": Memory(bias),
            "in": case.fields(normed=False),
            "w": Memory(w),
            "row_bytes": w.shape[1],
            "rows": rows,
        }
        grid = (rows // 32, ceil_div(5, c))
        how = {"variant": f"{name}_c{c}", "threads": RESIDUAL_THREADS}
        launch("step_residual", wave, grid, **how, hidden=hidden, out=out, **fields)
        assert np.array_equal(scaled.array, hidden.array * weight)
        assert np.array_equal(quantized.array, quantize(scaled.array))
        exact = (hidden.array.astype(np.float64).reshape(5, -1, 32) ** 2).sum(-1)
        np.testing.assert_allclose(squares.array, exact, rtol=12 * UNIT_ROUNDOFF)
        alone = Memory(before)
        launch("step_residual", wave, grid, **how, hidden=alone, **fields)
        assert np.array_equal(alone.array, hidden.array)
        results.append(hidden.array)
    product, bound = case.product(name, w, wave)
    exact = before + product + bias
    size = np.abs(before) + np.abs(product) + np.abs(bias)
    assert np.all(np.abs(results[0] - exact) <= bound + 3 * UNIT_ROUNDOFF * size)
    assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize("wave", WAVES)
def test_the_first_input_is_what_a_residual_leaves(wave: int) -> None:
    n = 2080
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, n), dtype=np.float32)
    weight = Memory(rng.standard_normal(n, dtype=np.float32))
    scaled, squares = unset(3, n), unset(3, n // 32)
    quantized = unset(3, row_bytes(n), dtype=np.uint8)
    out = struct(
        "StepOutput",
        weight=weight.address,
        quantized=quantized.address,
        scaled=scaled.address,
        squares=squares.address,
    )
    launch("step_input", wave, (3, ceil_div(n, 1024)), x=Memory(x), out=out, columns=3, n=n)
    assert np.array_equal(scaled.array, x * weight.array)
    assert np.array_equal(quantized.array[:, : n + n // 4], quantize(scaled.array)[:, : n + n // 4])
    exact = (x.astype(np.float64).reshape(3, -1, 32) ** 2).sum(-1)
    np.testing.assert_allclose(squares.array, exact, rtol=12 * UNIT_ROUNDOFF)


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("name", FORMATS)
def test_embeddings_are_decoded_and_ready_for_the_first_product(name: str, wave: int) -> None:
    n = {256: 1280, 32: 1056, 1: 1056}[block_weights(name)]
    rng = np.random.default_rng(4)
    table = random_weights(rng, name, 6, n)
    weight = Memory(rng.standard_normal(n, dtype=np.float32))
    y, scaled, squares = unset(2, n), unset(2, n), unset(2, n // 32)
    out = struct(
        "StepOutput", weight=weight.address, scaled=scaled.address, squares=squares.address
    )
    launch(
        "step_embed",
        wave,
        (2, ceil_div(n, 1024)),
        name,
        y=y,
        table=Memory(table),
        token_ids=Memory(np.array([5, 2], np.int32)),
        out=out,
        row_bytes=table.shape[1],
        n=n,
    )
    assert np.array_equal(y.array, decode(name, table)[[5, 2]])
    assert np.array_equal(scaled.array, y.array * weight.array)
    exact = (y.array.astype(np.float64).reshape(2, -1, 32) ** 2).sum(-1)
    np.testing.assert_allclose(squares.array, exact, rtol=12 * UNIT_ROUNDOFF)
