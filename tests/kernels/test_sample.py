"""Tokens drawn on the device: the ids of the CPU's sampler, whose oracle is in tests/ops/test_sample.py."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from host_kernels import WAVES, Memory, ceil_div, launch, struct, unset

from ops.sampling_rows import draw
from reference.sampling import Row, philox4x32_10

BLOCK, SLICE = 64, 2048


def random_bits(row: Row) -> int:
    low = 0xFFFFFFFF
    counter = [row.position & low, row.position >> 32, 0, 0]
    words = philox4x32_10(counter, [row.seed & low, row.seed >> 32])
    return int(words[1]) << 32 | int(words[0])


def sample_row(row: Row) -> ctypes.Structure:
    if row.temperature == 0:
        return struct("SampleRow")
    inverse = np.float32(1) / np.float32(row.temperature)
    return struct(
        "SampleRow",
        random=random_bits(row),
        min_weight=int(np.ceil(np.float64(np.float32(row.min_p)) * 2.0**40)),
        inv_temperature=float(min(inverse, np.finfo(np.float32).max)),
        top_p=row.top_p,
        top_k=max(row.top_k, 0),
    )


def drawn(logits: np.ndarray, rows: list[Row], wave: int) -> list[int]:
    count, vocab = logits.shape
    how = (type(sample_row(rows[0])) * count)(*map(sample_row, rows))
    blocks, slices = ceil_div(vocab, BLOCK), ceil_div(vocab, SLICE)
    ids, arrivals = unset(count, dtype=np.int32), Memory(np.zeros(count, np.uint32))
    fields = {
        "ids": ids,
        "maxima": unset(count, blocks),
        "top": unset(count),
        "sums": unset(count, slices, dtype=np.uint64),
        "blocks": unset(count, blocks, dtype=np.int32),
        "arrivals": arrivals,
        "rows": Memory(np.frombuffer(bytes(how), np.uint8)),
        "logits": Memory(logits),
        "n": vocab,
    }
    launch("sample_top", wave, (slices, count), **fields)
    launch("sample_draw", wave, (slices, count), **fields)
    assert not arrivals.array.any()
    result: list[int] = ids.array.tolist()
    return result


def rows_of_all_kinds(rng: np.random.Generator, vocab: int) -> list[Row]:
    def row(**how: float) -> Row:
        seed, position = int(rng.integers(2**64, dtype=np.uint64)), int(rng.integers(2**40))
        return Row(**{"seed": seed, "position": position, "temperature": 1.0} | how)  # type: ignore[arg-type]

    return [
        row(temperature=0.0),
        row(),
        row(temperature=0.3, min_p=0.2),
        row(top_k=1),
        row(top_k=40, top_p=0.95, temperature=0.8),
        row(top_k=40, min_p=0.05, temperature=2.0),
        row(top_k=vocab // 2 + 1, top_p=0.5),
        row(top_k=vocab + 5, top_p=1.5),
        row(top_p=0.9),
        row(top_p=0.999, temperature=5.0),
        row(top_p=0.0),
        row(top_p=0.7, min_p=1.0),
    ]


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize(
    ("vocab", "spread"), [(1, 1.0), (63, 3.0), (515, 0.01), (2048, 3.0), (9001, 3.0), (70000, 1.0)]
)
def test_draws_are_those_of_the_cpu(vocab: int, spread: float, wave: int) -> None:
    rng = np.random.default_rng(vocab)
    rows = rows_of_all_kinds(rng, vocab)
    logits = rng.normal(0, spread, (len(rows), vocab)).astype(np.float32)
    tied = np.round(logits * 2) / 2  # many equal ones, zeros of both signs among them
    for x in (logits, tied):
        x[:, vocab // 2 :: 7] = np.nan
        x[:, vocab // 3 :: 5] = -np.inf
        x[:, vocab // 4] = 0.5
        assert drawn(x, rows, wave) == draw("scalar", x, rows).token_ids.tolist()


@pytest.mark.parametrize("wave", WAVES)
def test_every_draw_of_a_small_distribution_is_that_of_the_cpu(wave: int) -> None:
    """Many positions of one request, so that edges of the running sum are met from both sides."""
    x = np.tile(np.log([0.5, 0.25, 0.125, 0.0625, 0.0625]).astype(np.float32), (64, 1))
    rows = [
        Row(temperature=1.0, top_k=k, seed=9, position=p) for p in range(16) for k in (0, 2, 3, 4)
    ]
    got = drawn(x, rows, wave)
    assert got == draw("scalar", x, rows).token_ids.tolist()
    assert len(set(got)) > 2


@pytest.mark.parametrize("wave", WAVES)
def test_rows_that_allow_no_draw_give_none(wave: int) -> None:
    x = np.zeros((6, 3001), np.float32)
    x[0], x[1], x[2, 3000] = np.nan, -np.inf, np.inf
    x[3] = -np.inf
    x[3, 40] = -3e38
    x[4, 5], x[4, 9], x[5, 17] = np.nan, 9.0, -0.0
    for how in (
        Row(temperature=0.0),
        Row(temperature=1.0, top_k=1),
        Row(temperature=1.0, top_p=0.0),
    ):
        assert drawn(x, [how] * 6, wave) == [-1, -1, -1, 40, 9, 0]
