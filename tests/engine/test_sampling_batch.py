"""Sampler states and their assembly, against the oracle's reading of the same history."""

from __future__ import annotations

import gc
import time
from array import array
from typing import Any

import numpy as np
import pytest

from ops.sampling_rows import batch_of, draw
from reference.sampling import Row
from rocmforge import _native
from rocmforge.engine.sampling import SamplerState, SamplingBatchBuilder, SamplingParams
from rocmforge.errors import InvalidArgumentError

VOCAB = 100
ISA = _native.cpu.available_isas()[-1]

HISTORIES = [
    ({}, [1, 2], [3]),
    ({"temperature": 0.0, "top_k": 0}, [1], []),
    ({"logit_bias": {5: 3.0, 99: -100.0}}, [1, 5], [5, 5]),
    ({"repetition_penalty": 1.7}, [1, 2, 2, 3], [3, 4, 4]),
    ({"repetition_penalty": 0.6, "logit_bias": {3: 1.0}}, [3], []),
    ({"presence_penalty": 1.5}, [1, 2, 2], [2, 4, 4, 4]),
    ({"frequency_penalty": -0.5}, [1], [4, 4, 6]),
    (
        {
            "presence_penalty": 0.5,
            "frequency_penalty": 0.25,
            "repetition_penalty": 1.2,
            "logit_bias": {0: 5.0, 4: -1.0},
            "min_p": 0.05,
            "seed": 2**64 - 1,
        },
        [0, 1, 2],
        [2, 4, 4],
    ),
]


def state_and_row(
    changes: dict[str, Any], prompt: list[int], output: list[int], position: int
) -> tuple[SamplerState, Row]:
    params = SamplingParams(**changes)
    seed = 7 if params.seed is None else params.seed
    state = SamplerState(params, array("i", prompt), VOCAB, seed)
    for token in output:
        state.append(token)
    row = Row(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        logit_bias=params.logit_bias,
        prompt=prompt,
        output=output,
        seed=seed,
        position=position,
    )
    return state, row


def entries(batch: Any, row: int) -> dict[int, tuple[float, bool, float]]:
    """What changes a logit, by token id."""
    begin, end = batch.adjust_offsets[row : row + 2]
    found = {}
    for i in range(begin, end):
        bias, subtract = float(batch.adjust_bias[i]), float(batch.adjust_subtract[i])
        repeated = bool(batch.adjust_repeated[i]) and batch.repetition_penalty[row] != 1
        if bias or subtract or repeated:
            assert int(batch.adjust_ids[i]) not in found
            found[int(batch.adjust_ids[i])] = (bias, repeated, subtract)
    return found


def test_a_batch_says_of_every_row_what_its_history_asks_for() -> None:
    pairs = [state_and_row(*history, position=10 + i) for i, history in enumerate(HISTORIES)]
    batch = SamplingBatchBuilder(16, VOCAB).build(
        [state for state, _ in pairs], [row.position for _, row in pairs]
    )
    expected = batch_of([row for _, row in pairs], VOCAB)
    assert batch.num_rows == len(pairs)
    for name in (
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "seed",
        "position",
        "num_logprobs",
        "mask_row",
    ):
        got = getattr(batch, name)[: len(pairs)]
        np.testing.assert_array_equal(got, getattr(expected, name), err_msg=name)
        assert got.dtype == getattr(expected, name).dtype
    for r in range(len(pairs)):
        assert entries(batch, r) == entries(expected, r), HISTORIES[r]


def test_the_native_sampler_takes_the_batch_as_it_is() -> None:
    pairs = [state_and_row(*history, position=i) for i, history in enumerate(HISTORIES)] * 10
    logits = np.random.default_rng(0).normal(0, 2, (len(pairs), VOCAB)).astype(np.float32)
    batch = SamplingBatchBuilder(100, VOCAB).build(
        [state for state, _ in pairs], [row.position for _, row in pairs]
    )
    expected = draw(ISA, logits, [row for _, row in pairs]).token_ids
    got = _native.cpu.Sampler(VOCAB, ISA).sample(logits, batch)["token_ids"]
    np.testing.assert_array_equal(got, expected)


def test_a_builder_may_be_used_for_step_after_step() -> None:
    builder = SamplingBatchBuilder(16, VOCAB)
    rng = np.random.default_rng(1)
    for _ in range(30):
        picked = [HISTORIES[i] for i in rng.integers(0, len(HISTORIES), rng.integers(1, 17))]
        pairs = [state_and_row(*history, position=3) for history in picked]
        batch = builder.build([state for state, _ in pairs], [3] * len(pairs))
        expected = batch_of([row for _, row in pairs], VOCAB)
        assert batch.num_rows == len(pairs)
        for r in range(len(pairs)):
            assert entries(batch, r) == entries(expected, r)


class OddTokens:
    """A grammar that allows odd tokens, and remembers what it was told."""

    is_finished = False
    error = None

    def __init__(self) -> None:
        self.accepted: list[int] = []

    def fill_mask(self, words: np.ndarray) -> None:
        assert words.dtype == np.uint32
        assert not words.any()
        words[:] = 0xAAAAAAAA

    def accept(self, token_id: int) -> None:
        self.accepted.append(token_id)


def test_grammars_fill_the_masks_of_their_rows() -> None:
    grammar = OddTokens()
    free = SamplerState(SamplingParams(temperature=0.0), [], VOCAB, 0)
    bound = SamplerState(SamplingParams(temperature=0.0), [], VOCAB, 0, grammar)
    builder = SamplingBatchBuilder(8, VOCAB)
    logits = np.tile(np.arange(VOCAB, 0, -1, dtype=np.float32), (3, 1))
    sampler = _native.cpu.Sampler(VOCAB, ISA)
    for states, expected in [
        ([free, bound, free], [0, 1, 0]),
        ([bound, free, bound], [1, 0, 1]),
        ([free, free, free], [0, 0, 0]),
    ]:
        batch = builder.build(states, [0, 0, 0])
        assert sampler.sample(logits.copy(), batch)["token_ids"].tolist() == expected
    bound.append(17)
    assert grammar.accepted == [17]
    assert (free.is_finished, free.error) == (False, None)
    assert (bound.is_finished, bound.error) == (False, None)
    grammar.is_finished = True
    assert bound.is_finished


def test_what_depends_on_the_last_token_needs_the_host() -> None:
    def needs_host(**changes: Any) -> bool:
        return SamplerState(SamplingParams(**changes), [], VOCAB, 0).needs_host

    assert not needs_host()
    assert not needs_host(logit_bias={1: 2.0}, logprobs=3)
    assert needs_host(repetition_penalty=1.1)
    assert needs_host(presence_penalty=0.1)
    assert needs_host(frequency_penalty=-0.1)
    assert SamplerState(SamplingParams(), [], VOCAB, 0, OddTokens()).needs_host


def test_the_batch_knows_the_largest_number_of_logprobs() -> None:
    builder = SamplingBatchBuilder(8, VOCAB)
    states = [SamplerState(SamplingParams(logprobs=n), [], VOCAB, 0) for n in (None, 0, 5, None, 2)]
    batch = builder.build(states, [0] * 5)
    assert batch.max_logprobs == 5
    assert batch.num_logprobs[:5].tolist() == [-1, 0, 5, -1, 2]
    assert builder.build(states[:1], [0]).max_logprobs == -1


def test_negative_seeds_are_taken_as_their_64_bits() -> None:
    batch = SamplingBatchBuilder(1, VOCAB).build(
        [SamplerState(SamplingParams(), [], VOCAB, -1)], [0]
    )
    assert int(batch.seed[0]) == 2**64 - 1


def test_a_state_without_penalties_keeps_nothing() -> None:
    state = SamplerState(SamplingParams(), range(10_000), 10_000, 0)
    for token in range(10_000):
        state.append(token)
    batch = SamplingBatchBuilder(1, 10_000).build([state], [0])
    assert batch.adjust_offsets[:2].tolist() == [0, 0]


@pytest.mark.parametrize("token", [100, -1, 2**31 - 1, 2**40])
def test_ids_outside_of_the_logits_are_refused(token: int) -> None:
    message = f"token id {token} is outside the model's logits, which have 100 entries"
    penalized = SamplingParams(repetition_penalty=2.0)
    with pytest.raises(InvalidArgumentError, match=message):
        SamplerState(penalized, [1, token], VOCAB, 0)
    state = SamplerState(penalized, [1], VOCAB, 0)
    with pytest.raises(InvalidArgumentError, match=message):
        state.append(token)
    if 0 <= token < 2**31:
        with pytest.raises(InvalidArgumentError, match=message):
            SamplerState(SamplingParams(logit_bias={token: 1.0}), [], VOCAB, 0)


def test_a_build_of_the_wrong_size_or_kind_is_refused() -> None:
    builder = SamplingBatchBuilder(2, VOCAB)
    state = SamplerState(SamplingParams(), [], VOCAB, 0)
    with pytest.raises(InvalidArgumentError, match="3 states and 3 positions"):
        builder.build([state] * 3, [0] * 3)
    with pytest.raises(InvalidArgumentError, match="2 states and 1 positions"):
        builder.build([state] * 2, [0])
    with pytest.raises((TypeError, AttributeError)):
        builder.build([state, None], [0, 0])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        builder.build([state, "state"], [0, 0])  # type: ignore[list-item]


def test_a_step_allocates_nothing_once_the_arrays_are_large_enough() -> None:
    builder = SamplingBatchBuilder(64, VOCAB)
    states = [state_and_row(*HISTORIES[7], position=0)[0] for _ in range(64)]
    positions = [0] * 64
    arrays = [id(builder.build(states, positions).adjust_ids)]
    gc.collect()
    for _ in range(100):
        arrays.append(id(builder.build(states, positions).adjust_ids))
    assert len(set(arrays)) == 1


def test_arrays_that_a_growing_output_outgrows_double() -> None:
    builder = SamplingBatchBuilder(1, 10_000)
    state = SamplerState(SamplingParams(presence_penalty=1.0), [], 10_000, 0)
    sizes = set()
    for token in range(2000):
        state.append(token)
        sizes.add(len(builder.build([state], [token]).adjust_ids))
    assert len(sizes) <= 12


def test_building_a_batch_of_64_plain_rows_takes_microseconds() -> None:
    builder = SamplingBatchBuilder(64, 150_000)
    states = [SamplerState(SamplingParams(), [1] * 1000, 150_000, i) for i in range(64)]
    positions = list(range(64))
    times = []
    for _ in range(200):
        start = time.perf_counter()
        builder.build(states, positions)
        times.append(time.perf_counter() - start)
    assert sorted(times)[100] < 50e-6  # 1.2 us on a 2.6 GHz core
