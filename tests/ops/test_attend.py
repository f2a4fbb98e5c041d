"""Paged attention, every ISA and cache type against float64, and the invariance of every bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from paged_attention import Cache, Sequence, Shape, attend_alone, expected

from rocmforge import _native, errors

KV_DTYPES = list(_native.KV_DTYPES)


def check(sequence: Sequence, tokens: range, isa: str, kv_dtype: str, **options: int) -> None:
    y = attend_alone(sequence, tokens, isa, kv_dtype, **options)
    reference, bound = expected(sequence, tokens, kv_dtype)
    assert np.all(np.abs(y - reference) <= bound)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize(
    ("length", "block_size"),
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
    "shape", [Shape(1, 64, 64), Shape(4, 32, 32), Shape(3, 96, 160), Shape(7, 64, 64, kv_heads=2)]
)
def test_decode_matches_float64(
    isa: str, kv_dtype: str, length: int, block_size: int, shape: Shape
) -> None:
    sequence = Sequence(shape, length)
    check(sequence, range(length - 1, length), isa, kv_dtype, block_size=block_size)


@pytest.mark.parametrize("kv_dtype", ["f16", "bf16", "f32"])
@pytest.mark.parametrize("block_size", [16, 6])
@pytest.mark.parametrize(
    ("head_dim", "value_dim"), [(8, 8), (33, 20), (80, 80), (17, 256), (256, 1)]
)
def test_head_sizes_need_not_fill_vectors(
    isa: str, kv_dtype: str, block_size: int, head_dim: int, value_dim: int
) -> None:
    sequence = Sequence(Shape(2, head_dim, value_dim), 70)
    check(sequence, range(60, 70), isa, kv_dtype, block_size=block_size)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("group", [*range(1, 10), 13, 17, 33])
def test_groups_of_every_size_match_float64(isa: str, kv_dtype: str, group: int) -> None:
    check(Sequence(Shape(group, 32, 64), 100), range(99, 100), isa, kv_dtype)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("tokens", [range(90), range(60, 70), range(63, 190)])
def test_prompts_match_float64(isa: str, kv_dtype: str, tokens: range) -> None:
    check(Sequence(Shape(3, 32, 64, kv_heads=2), 190), tokens, isa, kv_dtype, threads=2)


@pytest.mark.parametrize("length", [1023, 1024, 1025, 2049, 3000])
def test_long_sequences_match_float64(isa: str, length: int) -> None:
    check(Sequence(Shape(2, 32, 32), length), range(length - 1, length), isa, "f16", threads=2)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("block_size", [16, 5])
def test_a_prompt_is_bit_equal_to_its_tokens_one_by_one(
    isa: str, kv_dtype: str, block_size: int
) -> None:
    sequence = Sequence(Shape(3, 64, 96, kv_heads=2), 150)
    cache = Cache([sequence], isa, kv_dtype, block_size)
    alone = np.concatenate([cache.attend(range(t, t + 1))[0] for t in range(150)])
    for chunks in ([0, 150], [0, 1, 63, 64, 66, 130, 150], [0, 100, 150]):
        parts = [cache.attend(range(a, b))[0] for a, b in pairwise(chunks)]
        assert np.array_equal(np.concatenate(parts), alone)


def test_threads_do_not_change_a_bit(isa: str) -> None:
    sequence = Sequence(Shape(2, 32, 32), 3100)
    for tokens in (range(3099, 3100), range(1000, 1100), range(3000, 3100)):
        results = [attend_alone(sequence, tokens, isa, "f16", threads=n) for n in (1, 2, 3, 7)]
        assert all(np.array_equal(results[0], r) for r in results)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_page_size_does_not_change_a_bit(isa: str, kv_dtype: str) -> None:
    sequence = Sequence(Shape(2, 64, 32, kv_heads=2), 150)
    for tokens in (range(149, 150), range(100, 150)):
        results = [
            attend_alone(sequence, tokens, isa, kv_dtype, block_size=block_size)
            for block_size in (1, 6, 16, 48, 64, 200)
        ]
        assert all(np.array_equal(results[0], r) for r in results)


def test_sequences_of_a_step_do_not_influence_each_other(isa: str) -> None:
    shape = Shape(3, 32, 48, kv_heads=2)
    sequences = [Sequence(shape, length, seed=length) for length in (1, 40, 1500, 77, 129)]
    chunks = [range(1), range(39, 40), range(1499, 1500), range(77), range(100, 129)]
    together = Cache(sequences, isa, "f16", threads=2).attend(*chunks)
    for sequence, chunk, y in zip(sequences, chunks, together, strict=True):
        assert np.array_equal(y, attend_alone(sequence, chunk, isa, "f16"))


def test_query_heads_of_a_group_do_not_influence_each_other(isa: str) -> None:
    sequence = Sequence(Shape(17, 64, 64), 77)
    together = attend_alone(sequence, range(70, 77), isa)
    for head in range(17):
        alone = Sequence(Shape(1, 64, 64), 77)
        alone.q, alone.k, alone.v = sequence.q[:, head : head + 1], sequence.k, sequence.v
        assert np.array_equal(attend_alone(alone, range(70, 77), isa)[:, 0], together[:, head])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block_size", [16, 5])
@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_a_token_is_untouched_by_bad_values_after_it(
    isa: str, bad: float, block_size: int, kv_dtype: str
) -> None:
    shape = Shape(4, 32, 64)
    clean, poisoned = Sequence(shape, 80), Sequence(shape, 80)
    poisoned.k[70:], poisoned.v[70:] = bad, bad
    y = attend_alone(poisoned, range(60, 80), isa, kv_dtype, block_size=block_size)
    assert np.array_equal(y[:10], attend_alone(clean, range(60, 70), isa, kv_dtype))
    assert not np.isfinite(y[10:]).any()


def test_scores_far_apart_pick_one_position_without_overflow(isa: str) -> None:
    sequence = Sequence(Shape(1, 16, 16), 128)
    sequence.q[:], sequence.k[:], sequence.k[70] = 1e4, 0, 1e4
    sequence.v[:] = np.arange(128)[:, None, None]
    y = attend_alone(sequence, range(127, 128), isa)
    assert np.array_equal(y, np.full((1, 1, 16), 70.0, np.float32))


@pytest.mark.parametrize(("head_dim", "value_dim"), [(48, 32), (32, 16)])
def test_heads_that_are_no_whole_blocks_are_refused(head_dim: int, value_dim: int) -> None:
    sequence = Sequence(Shape(1, head_dim, value_dim), 1)
    with pytest.raises(errors.InvalidArgumentError, match=r"q8_0 needs heads of a multiple of 32"):
        Cache([sequence], "scalar", "q8_0")


def test_arguments_that_do_not_fit_the_cache_are_refused() -> None:
    attention = _native.cpu.PagedAttention(
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        value_dim=8,
        scale=1.0,
        kv_dtype="f32",
        num_blocks=2,
        block_size=4,
    )
    q = np.zeros((1, 2, 8), np.float32)
    with pytest.raises(errors.InvalidArgumentError, match="cover every position"):
        attention.attend(q, [8], [0, 1], [[0, 1]])
    with pytest.raises(errors.InvalidArgumentError, match="inside the cache"):
        attention.attend(q, [0], [0, 1], [[0, 2]])
    with pytest.raises(errors.InvalidArgumentError, match="q holds"):
        attention.attend(q, [0, 1], [0, 2], [[0, 1]])
    with pytest.raises(errors.InvalidArgumentError, match="outside"):
        attention.store(0, q[:, :1], q[:, :1], [8])
