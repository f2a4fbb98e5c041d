"""Steps on the emulated GPU: what they allocate and launch, and what becomes of them when memory, a
recorded step or the device itself fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reference.tiny_models import write_tiny_model
from rocmforge import (
    LLM,
    DeviceError,
    InvalidArgumentError,
    OutOfMemoryError,
    SamplingParams,
    UnavailableError,
    _native,
)
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions

VOCAB_SIZE = 515


@pytest.fixture
def no_faults() -> Iterator[None]:
    yield
    _native.gpu.emulate_fault("memory", 0)
    _native.gpu.emulate_fault("memory_bytes", 0)
    _native.gpu.emulate_fault("device", 0)
    _native.gpu.emulate_fault("graph", 0)


@pytest.mark.parametrize("ordinal", [0, 2])
def test_chunks_that_nobody_waits_for_leave_each_other_alone(tmp_path: Path, ordinal: int) -> None:
    """More steps are queued than there are slots for their parameters."""
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "Q4_K_M")
    options = LoadOptions(
        device=f"host:{ordinal}", max_num_seqs=1, max_num_tokens=64, threads=1, deterministic=True
    )
    decoder = load_model(path, options).decoder
    for position in range(0, 35, 5):
        step(decoder, position, 5, rows=0)
    got = step(decoder, 35)
    np.testing.assert_array_equal(got, step(load_model(path, options).decoder, 0, 36))


def step(decoder: Any, position: int, count: int = 1, *, rows: int = 1) -> np.ndarray:
    """Logits of the last of `count` tokens of one sequence, `rows` times; blocks 0, 1, ..."""
    positions = np.arange(position, position + count, dtype=np.int32)
    blocks = np.arange(-(-(position + count) // decoder.block_size), dtype=np.int32)
    batch = SimpleNamespace(
        token_ids=positions * 7 % VOCAB_SIZE,
        positions=positions,
        slot_mapping=positions,
        query_start_loc=np.array([0, count], np.int32),
        seq_lens=np.array([position + count], np.int32),
        block_tables=blocks[None, :],
        logit_rows=np.full(rows, count - 1, np.int32),
    )
    return decoder.logits(decoder.enqueue(batch, None)).copy()


@pytest.fixture
def decoder(tmp_path: Path) -> Any:
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "Q4_K_M")
    options = LoadOptions(device="host:0", max_num_seqs=2, max_num_tokens=64, threads=1)
    return load_model(path, options).decoder


def test_a_step_allocates_nothing_and_is_replayed_from_its_third_time_on(decoder: Any) -> None:
    step(decoder, 0, 40)
    step(decoder, 40)
    allocations, launches = decoder.num_device_allocations, [decoder.num_launches]
    for position in range(41, 46):
        step(decoder, position)
        launches.append(decoder.num_launches)
    assert decoder.num_device_allocations == allocations
    recorded, *replayed = np.diff(launches)
    # Two layers; angles, embedding, norm and output matrix.
    assert recorded == 2 * 5 + 4
    # Angles and output matrix are no part of the record.
    assert set(replayed) == {2}
    assert decoder.num_replays == 5


@pytest.mark.parametrize("weight_format", ["Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q5_0", "Q8_0", "F16"])
def test_steps_of_few_sequences_take_five_launches_a_layer(
    tmp_path: Path, weight_format: str
) -> None:
    """Up to four; eight where no matrix cores take the weights, which are faster from five on."""
    path = write_tiny_model(tmp_path / "m.gguf", "llama", weight_format, head_dim=64)
    options = LoadOptions(device="host:0", max_num_seqs=9, max_num_tokens=64, threads=1)
    decoder = load_model(path, options).decoder
    launches = [launches_of(decoder, sequences) for sequences in (1, 4, 8, 9)]
    fused = 3 if weight_format == "F16" else 2
    assert launches[:fused] == [2 * 5 + 4] * fused
    assert min(launches[fused:]) > 20  # one by one


def launches_of(decoder: Any, sequences: int) -> int:
    """Of a step with the first token of each."""
    batch = SimpleNamespace(
        token_ids=np.arange(sequences, dtype=np.int32),
        positions=np.zeros(sequences, np.int32),
        slot_mapping=np.arange(sequences, dtype=np.int32) * decoder.block_size,
        query_start_loc=np.arange(sequences + 1, dtype=np.int32),
        seq_lens=np.ones(sequences, np.int32),
        block_tables=np.arange(sequences, dtype=np.int32)[:, None],
        logit_rows=np.arange(sequences, dtype=np.int32),
    )
    before = decoder.num_launches
    decoder.logits(decoder.enqueue(batch, None))
    return int(decoder.num_launches - before)


@pytest.mark.usefixtures("no_faults")
def test_a_record_that_replays_wrongly_is_never_used(decoder: Any, tmp_path: Path) -> None:
    options = LoadOptions(device="host:0", max_num_seqs=2, max_num_tokens=64, threads=1)
    other = load_model(tmp_path / "m.gguf", options).decoder
    _native.gpu.emulate_fault("graph", 1)
    for position in range(6):
        got = step(decoder, position)
        _native.gpu.emulate_fault("graph", 0)
        np.testing.assert_array_equal(got, step(other, position))
        _native.gpu.emulate_fault("graph", 1)
    assert decoder.num_replays == 1
    assert "another result" in decoder.recording_problem
    assert other.recording_problem is None
    assert other.num_replays == 4  # the first step allocated what records point at


@pytest.mark.usefixtures("no_faults")
def test_an_engine_tells_that_steps_are_replayed_and_why_they_are_not() -> None:
    greedy = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
    with LLM(device="host:0", max_num_seqs=1, max_model_len=64) as llm:
        llm.generate("Once", greedy)
        assert llm.stats().num_replays > 0
        assert llm.stats().recording_problem is None
    with LLM(device="host:0", max_num_seqs=1, max_model_len=64) as llm:
        _native.gpu.emulate_fault("graph", 1)
        llm.generate("Once", greedy)
        told = llm.stats().recording_problem
        assert told is not None
        assert "another result" in told


@pytest.mark.usefixtures("no_faults")
def test_a_step_that_lacks_memory_has_not_happened_and_the_next_works() -> None:
    rows = 1100  # whose logits are more than arenas have in reserve
    options = LoadOptions(device="host:0", max_num_seqs=2, max_num_tokens=rows, threads=1)
    decoder = load_model(None, options).decoder
    wanted, expected = step(decoder, 0, 2), step(decoder, 2)
    _native.gpu.emulate_fault("memory", 1)
    with pytest.raises(OutOfMemoryError, match="device memory"):
        step(decoder, 0, 2, rows=rows)
    np.testing.assert_array_equal(step(decoder, 2), expected)
    np.testing.assert_array_equal(step(decoder, 0, 2), wanted)


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("calls", [1, 2, 7, 30])
def test_a_lost_device_ends_requests_with_that_error_and_never_with_tokens(calls: int) -> None:
    with LLM(device="host:0", max_num_seqs=2, max_model_len=64) as llm:
        _native.gpu.emulate_fault("device", calls)
        (result,) = llm.generate("Once", SamplingParams(temperature=0, max_tokens=8))
        assert isinstance(result.error, DeviceError)
        assert list(result.token_ids) == []


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("nth", [1, 2, 3, 5, 8])
def test_an_allocation_that_fails_at_load_is_tried_again_with_a_smaller_cache(nth: int) -> None:
    options = LoadOptions(device="host:0", max_num_seqs=1)
    _native.gpu.emulate_fault("memory", nth)
    model = load_model(None, options)
    assert 1 <= model.cache.num_blocks <= load_model(None, options).cache.num_blocks


@pytest.mark.usefixtures("no_faults")
def test_loading_without_memory_is_an_error_with_the_sizes() -> None:
    _native.gpu.emulate_fault("memory_bytes", 1 << 20)
    with pytest.raises(OutOfMemoryError, match=r"host:0 has 1048576 bytes free.*weights need \d+"):
        load_model(None, LoadOptions(device="host:0", max_num_seqs=1))
    _native.gpu.emulate_fault("memory_bytes", 0)
    load_model(None, LoadOptions(device="host:0", max_num_seqs=1))


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize("gpu_layers", [None, 5])
def test_what_came_before_a_loss_is_right_and_nothing_comes_after_it(
    gpu_layers: int | None,
) -> None:
    """Lost in the middle of a text, in launches, copies or waiting, whichever the call is."""
    greedy = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    options: dict[str, Any] = {"device": "host:0", "max_num_seqs": 1, "max_model_len": 64}
    with LLM(gpu_layers=gpu_layers, **options) as llm:
        wanted = llm.generate("Once upon", greedy)[0].token_ids
    lengths = set()
    for calls in (10, 150, 300):
        with LLM(gpu_layers=gpu_layers, **options) as llm:
            got: list[int] = []
            stream = llm.stream("Once upon", greedy)
            got += next(stream).token_ids
            _native.gpu.emulate_fault("device", calls)
            with pytest.raises(DeviceError):
                got.extend(token for delta in stream for token in delta.token_ids)
            assert list(wanted[: len(got)]) == got
            assert not llm.stats().healthy
            with pytest.raises(UnavailableError):
                llm.generate("Once", greedy)
            _native.gpu.emulate_fault("device", 0)
        lengths.add(len(got))
    assert len(lengths) > 1


def test_deterministic_steps_beyond_the_grid_are_refused_at_load(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "Q4_0", num_experts=4)
    options = LoadOptions(device="host:0", max_num_tokens=40_000, threads=1, max_num_seqs=1)
    with pytest.raises(InvalidArgumentError, match=r"40000 tokens are more .* at once, 32767"):
        load_model(path, replace(options, deterministic=True))
    load_model(path, options)


def test_a_model_larger_than_its_share_is_refused_with_every_size() -> None:
    with pytest.raises(OutOfMemoryError, match=r"host:0 has \d+ bytes free.*weights need \d+"):
        load_model(None, LoadOptions(device="host:0", memory_fraction=1e-6))
