"""Paged attention of one token, every ISA against float64 softmax attention."""

from __future__ import annotations

import numpy as np
import pytest

from rocmforge import _native, errors

EPS = float(np.finfo(np.float32).eps)


def paged(
    rng: np.random.Generator, rows: np.ndarray, block_size: int, dtype: type
) -> tuple[np.ndarray, np.ndarray]:
    """Scatters rows [seq_len, width] over shuffled pages; the unused slots hold NaN."""
    num_used = -(-len(rows) // block_size)
    table = rng.permutation(num_used + 3)[:num_used].astype(np.int32)
    pages = np.full((num_used + 3, block_size, rows.shape[1]), np.nan, dtype)
    for position, row in enumerate(rows):
        pages[table[position // block_size], position % block_size] = row
    return (pages.view(np.uint16) if dtype is np.float16 else pages), table


def reference(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    scores = scale * q.astype(np.float64) @ k.astype(np.float64).T
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True) @ v.astype(np.float64))


def bound(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    """How far float32 may be off: a score is a sum of head_dim products, so its error is at most
    (head_dim + 2) * eps * |q| . |k|, which is the relative error of exp(score). The weighted mean
    adds seq_len + 8 roundings (sums of weights, of products, the rescaling of each tile, and 2^-24
    of the vector exp). Every value row then counts with at most the sum of both."""
    scores = scale * np.abs(q.astype(np.float64)) @ np.abs(k.astype(np.float64)).T
    relative = 2 * (q.shape[1] + 2) * EPS * scores.max() + (len(k) + 8) * EPS
    return relative * np.abs(v.astype(np.float64)).max(0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("seq_len", "block_size"),
    [
        (1, 1),
        (1, 16),
        (15, 16),
        (16, 16),
        (17, 16),
        (63, 7),
        (64, 64),
        (65, 5),
        (130, 32),
        (301, 3),
    ],
)
@pytest.mark.parametrize(
    ("group", "head_dim", "value_dim"), [(1, 64, 64), (4, 8, 8), (3, 33, 20), (8, 128, 128)]
)
def test_attention_matches_float64(
    isa: str, dtype: type, seq_len: int, block_size: int, group: int, head_dim: int, value_dim: int
) -> None:
    rng = np.random.default_rng(seq_len * 1000 + head_dim)
    q = rng.normal(size=(group, head_dim)).astype(np.float32)
    k = rng.normal(size=(seq_len, head_dim)).astype(dtype)
    v = rng.normal(size=(seq_len, value_dim)).astype(dtype)
    state = rng.bit_generator.state
    k_pages, table = paged(rng, k, block_size, dtype)
    rng.bit_generator.state = state  # the same shuffle: one table serves both
    v_pages, _ = paged(rng, v, block_size, dtype)
    scale = head_dim**-0.5

    y = _native.cpu.attend(q, k_pages, v_pages, table, seq_len, scale, isa=isa)

    assert np.all(np.abs(y - reference(q, k, v, scale)) <= bound(q, k, v, scale))


def test_page_size_does_not_change_a_bit(isa: str) -> None:
    rng = np.random.default_rng(5)
    q = rng.normal(size=(2, 40)).astype(np.float32)
    k, v = rng.normal(size=(2, 150, 40)).astype(np.float32)
    results = []
    for block_size in (1, 6, 16, 64, 200):
        rng = np.random.default_rng(9)
        k_pages, table = paged(rng, k, block_size, np.float32)
        v_pages, _ = paged(np.random.default_rng(9), v, block_size, np.float32)
        results.append(_native.cpu.attend(q, k_pages, v_pages, table, 150, 0.2, isa=isa))
    assert all(np.array_equal(results[0], r) for r in results)


def test_query_heads_of_a_group_do_not_influence_each_other(isa: str) -> None:
    rng = np.random.default_rng(6)
    q = rng.normal(size=(5, 64)).astype(np.float32)
    k, v = rng.normal(size=(2, 5, 16, 64)).astype(np.float32)
    table = np.arange(5, dtype=np.int32)
    together = _native.cpu.attend(q, k, v, table, 77, 0.125, isa=isa)
    alone = [_native.cpu.attend(q[g : g + 1], k, v, table, 77, 0.125, isa=isa) for g in range(5)]
    assert np.array_equal(together, np.concatenate(alone))


def test_scores_far_apart_pick_one_position_without_overflow(isa: str) -> None:
    k = np.zeros((1, 128, 16), np.float32)
    k[0, 70] = 1e4
    v = np.arange(128, dtype=np.float32)[None, :, None].repeat(16, 2)
    q = np.full((1, 16), 1e4, np.float32)
    y = _native.cpu.attend(q, k, v, np.zeros(1, np.int32), 128, 1.0, isa=isa)
    assert np.array_equal(y, np.full((1, 16), 70.0, np.float32))


def test_a_block_table_too_short_is_refused() -> None:
    k = np.zeros((2, 4, 8), np.float32)
    with pytest.raises(errors.InvalidArgumentError, match="cover seq_len"):
        _native.cpu.attend(np.zeros((1, 8), np.float32), k, k, np.zeros(1, np.int32), 5, 1.0)
