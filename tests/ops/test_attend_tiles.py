"""Attention of many rows in bfloat16 tiles against float64, and the invariance of every bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from paged_attention import (
    Cache,
    Sequence,
    Shape,
    attend_alone,
    expected,
    expected_of_tiles,
    stored,
)

from rocmforge import _native, errors

pytestmark = pytest.mark.skipif(
    "amx" not in _native.cpu.available_isas(),
    reason="this machine has no AMX tiles (or the kernel refused them): no level attends in "
    "bfloat16 here, and the engine uses the float32 kernels for every number of rows",
)

KV_DTYPES = list(_native.KV_DTYPES)


def attend(sequence: Sequence, tokens: range, kv_dtype: str = "f32", **options: int) -> np.ndarray:
    return Cache([sequence], "amx", kv_dtype, tiles=True, **options).attend(tokens)[0]


def check(sequence: Sequence, tokens: range, kv_dtype: str, **options: int) -> None:
    y = attend(sequence, tokens, kv_dtype, **options)
    reference, bound = expected_of_tiles(sequence, tokens, kv_dtype)
    assert np.all(np.abs(y - reference) <= bound)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize(
    "tokens",
    [range(1), range(15), range(16), range(17), range(90), range(60, 70), range(63, 190)],
)
@pytest.mark.parametrize(
    "shape", [Shape(3, 32, 64, kv_heads=2), Shape(1, 96, 160), Shape(5, 64, 32)]
)
def test_prompts_match_float64_of_rounded_operands(
    kv_dtype: str, tokens: range, shape: Shape
) -> None:
    check(Sequence(shape, 190), tokens, kv_dtype, threads=2)


@pytest.mark.parametrize("kv_dtype", ["f16", "bf16", "f32"])
@pytest.mark.parametrize("head_dim", [1, 2, 8, 17, 33, 63, 80, 256])
@pytest.mark.parametrize("value_dim", [16, 48, 256])
def test_head_sizes_need_not_fill_tiles(kv_dtype: str, head_dim: int, value_dim: int) -> None:
    check(Sequence(Shape(3, head_dim, value_dim), 75), range(58, 75), kv_dtype)


@pytest.mark.parametrize("length", [1023, 1024, 1025, 2100])
def test_long_sequences_match_float64_of_rounded_operands(length: int) -> None:
    check(Sequence(Shape(2, 32, 32), length), range(length - 20, length), "f16", threads=2)


def test_rounding_the_operands_stays_within_its_own_bound() -> None:
    """The bound of the kernel table, in scores e = 2^-7 sum |q k| off."""
    sequence = Sequence(Shape(2, 64, 64), 200)
    y = attend(sequence, range(200), "f16")
    reference, _ = expected(sequence, range(200), "f16")
    k, v = np.abs(stored("f16", sequence.k)), np.abs(stored("f16", sequence.v))
    for position in range(200):
        q = np.abs(sequence.q[position].astype(np.float64)) * sequence.scale
        e = 2.0**-7 * (k[: position + 1, 0] @ q.T).max(0)
        bound = (2 * np.expm1(2 * e) + 3 * 2.0**-8)[:, None] * v[: position + 1, 0].max(0)
        error = np.abs(y[position] - reference[position])
        assert np.all(error <= bound * 1.01)
    assert np.abs(y - reference).max() > 1e-5  # not the float32 kernels


@pytest.mark.parametrize(("value_dim", "block_size"), [(20, 16), (32, 6)])
def test_what_does_not_fit_tiles_goes_through_the_other_kernels(
    value_dim: int, block_size: int
) -> None:
    sequence = Sequence(Shape(4, 32, value_dim), 70)
    y = attend(sequence, range(70), block_size=block_size)
    assert np.array_equal(y, attend_alone(sequence, range(70), "amx", block_size=block_size))


def test_levels_without_tiles_refuse_them() -> None:
    with pytest.raises(errors.UnsupportedError, match="no matrix tiles"):
        Cache([Sequence(Shape(1, 32, 32), 1)], "avx512", tiles=True)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_a_prompt_is_bit_equal_to_its_tokens_one_by_one(kv_dtype: str) -> None:
    sequence = Sequence(Shape(3, 64, 96, kv_heads=2), 150)
    cache = Cache([sequence], "amx", kv_dtype, tiles=True)
    alone = np.concatenate([cache.attend(range(t, t + 1))[0] for t in range(150)])
    for chunks in ([0, 150], [0, 1, 63, 64, 66, 130, 150], [0, 100, 150]):
        parts = [cache.attend(range(a, b))[0] for a, b in pairwise(chunks)]
        assert np.array_equal(np.concatenate(parts), alone)


def test_threads_do_not_change_a_bit() -> None:
    sequence = Sequence(Shape(2, 32, 32), 3100)
    for tokens in (range(3099, 3100), range(1000, 1100), range(3000, 3100)):
        results = [attend(sequence, tokens, "f16", threads=n) for n in (1, 2, 3, 7)]
        assert all(np.array_equal(results[0], r) for r in results)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_page_size_does_not_change_a_bit(kv_dtype: str) -> None:
    sequence = Sequence(Shape(2, 64, 32, kv_heads=2), 150)
    results = [
        attend(sequence, range(100, 150), kv_dtype, block_size=size) for size in (16, 48, 64, 160)
    ]
    assert all(np.array_equal(results[0], r) for r in results)


def test_sequences_of_a_step_do_not_influence_each_other() -> None:
    shape = Shape(3, 32, 48, kv_heads=2)
    sequences = [Sequence(shape, length, seed=length) for length in (1, 40, 1500, 77, 129)]
    chunks = [range(1), range(39, 40), range(1499, 1500), range(77), range(100, 129)]
    together = Cache(sequences, "amx", "f16", threads=2, tiles=True).attend(*chunks)
    for sequence, chunk, y in zip(sequences, chunks, together, strict=True):
        assert np.array_equal(y, attend(sequence, chunk, "f16"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("first", [64, 69, 70, 79])
def test_a_token_is_untouched_by_bad_values_after_it(bad: float, kv_dtype: str, first: int) -> None:
    shape = Shape(4, 32, 80 if kv_dtype != "q8_0" else 64)
    clean, poisoned = Sequence(shape, 80), Sequence(shape, 80)
    poisoned.k[first:], poisoned.v[first:] = bad, bad
    y = attend(poisoned, range(50, 80), kv_dtype)
    assert np.array_equal(y[: first - 50], attend(clean, range(50, first), kv_dtype))
    assert not np.isfinite(y[first - 50 :]).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_query_stays_in_its_row(bad: float) -> None:
    clean, poisoned = Sequence(Shape(4, 32, 64), 80), Sequence(Shape(4, 32, 64), 80)
    poisoned.q[60, 2] = bad
    y, expected_y = attend(poisoned, range(50, 80)), attend(clean, range(50, 80))
    assert np.isnan(y[10, 2]).all()
    y[10, 2] = expected_y[10, 2]
    assert np.array_equal(y, expected_y)


@pytest.mark.parametrize("size", [1e4, 1e15])
def test_scores_far_apart_pick_one_position_without_overflow(size: float) -> None:
    sequence = Sequence(Shape(1, 16, 16), 128)
    sequence.q[:], sequence.k[:], sequence.k[70] = size, 0, size
    sequence.v[:] = np.arange(128)[:, None, None]
    y = attend(sequence, range(100, 128))
    assert np.array_equal(y, np.full((28, 1, 16), 70.0, np.float32))


def test_equal_scores_average_exactly() -> None:
    sequence = Sequence(Shape(4, 32, 32), 300)
    sequence.k[:], sequence.v[:] = 0, 3
    y = attend(sequence, range(300))
    assert np.allclose(y, 3, rtol=2.0**-22, atol=0)  # sums are exact; the division rounds twice
