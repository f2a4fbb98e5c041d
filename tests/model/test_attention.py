"""Attention alone on the CPU and on both emulated GPUs, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rocmforge import Attention, InvalidArgumentError, UnsupportedError

DEVICES = ["cpu", "host:0", "host:1"]
CACHE_ERROR = {"f32": 0.0, "f16": 2.0**-11, "bf16": 2.0**-8}  # of a key or value, of itself


def inputs(queries: int, positions: int, heads: int, kv_heads: int, dim: int, wide: int) -> Any:
    rng = np.random.default_rng([queries, positions, heads])
    q = rng.standard_normal((queries, heads, dim), dtype=np.float32)
    k = rng.standard_normal((positions, kv_heads, dim), dtype=np.float32)
    v = rng.standard_normal((positions, kv_heads, wide), dtype=np.float32)
    return q, k, v


def expected(q: Any, k: Any, v: Any, visible: np.ndarray) -> np.ndarray:
    group = q.shape[1] // k.shape[1]
    q, k, v = (x.astype(np.float64) for x in (q, np.repeat(k, group, 1), np.repeat(v, group, 1)))
    scores = np.einsum("qhd,phd->hqp", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * visible
    total = weights.sum(-1, keepdims=True)
    return np.einsum("hqp,phd->qhd", weights / np.where(total, total, 1), v)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("queries", "positions", "heads", "kv_heads", "dim", "wide"),
    [(1, 1, 1, 1, 64, 64), (5, 40, 4, 2, 32, 16), (9, 9, 6, 1, 128, 128), (3, 70, 2, 2, 80, 256)],
)
def test_any_mask_gives_the_result_of_float64(
    device: str, queries: int, positions: int, heads: int, kv_heads: int, dim: int, wide: int
) -> None:
    q, k, v = inputs(queries, positions, heads, kv_heads, dim, wide)
    attention = Attention(heads, dim, num_kv_heads=kv_heads, value_dim=wide, device=device)
    assert attention.device == device
    mask = np.random.default_rng(1).random((queries, positions)) < 0.5
    causal = np.tri(queries, positions, positions - queries, dtype=bool)
    for options, visible in (
        ({}, np.ones_like(mask)),
        ({"causal": True}, causal),
        ({"mask": mask}, mask),
        ({"mask": mask, "causal": True}, mask & causal),
    ):
        got = attention(q, k, v, **options)
        np.testing.assert_allclose(got, expected(q, k, v, visible), atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kv_dtype", CACHE_ERROR)
def test_keys_and_values_are_rounded_as_in_a_cache(device: str, kv_dtype: str) -> None:
    q, k, v = inputs(4, 33, 2, 1, 64, 64)
    attention = Attention(2, 64, num_kv_heads=1, device=device, kv_dtype=kv_dtype)
    error = np.abs(attention(q, k, v) - expected(q, k, v, np.ones((4, 33), bool))).max()
    assert error <= 4 * CACHE_ERROR[kv_dtype] + 1e-5
    assert (error > 1e-5) == (kv_dtype != "f32")


@pytest.mark.parametrize("device", DEVICES)
def test_a_query_that_sees_nothing_gets_zeros(device: str) -> None:
    q, k, v = inputs(3, 5, 2, 2, 32, 32)
    mask = np.ones((3, 5), bool)
    mask[1] = False
    attention = Attention(2, 32, device=device)
    got = attention(q, k, v, mask=mask)
    assert (got[1] == 0).all()
    assert (got[[0, 2]] != 0).all()
    assert (attention(q, k[:0], v[:0]) == 0).all()
    assert attention(q[:0], k, v).shape == (0, 2, 32)


def test_what_does_not_fit_together_is_refused() -> None:
    q, k, v = inputs(3, 5, 2, 1, 32, 32)
    attention = Attention(2, 32, num_kv_heads=1, max_tokens=5)
    with pytest.raises(InvalidArgumentError, match=r"the mask is \(5, 3\); \(3, 5\) is needed"):
        attention(q, k, v, mask=np.ones((5, 3)))
    with pytest.raises(InvalidArgumentError, match="v is"):
        attention(q, k, v[..., :16])
    with pytest.raises(InvalidArgumentError, match="three axes"):
        attention(q[0], k, v)
    with pytest.raises(InvalidArgumentError, match="more queries or positions"):
        attention(np.repeat(q, 2, 0), k, v)
    with pytest.raises(InvalidArgumentError, match="kv_dtype is 'q5'"):
        Attention(2, 32, kv_dtype="q5")
    with pytest.raises(InvalidArgumentError, match="multiple of num_kv_heads"):
        Attention(3, 32, num_kv_heads=2)
    with pytest.raises(UnsupportedError, match="no usable GPU"):
        Attention(2, 32, device="hip:7")
