from __future__ import annotations

from array import array

import numpy as np
import pytest

from rocmforge.engine.batch import Batch, BatchBuilder
from rocmforge.engine.request import Request
from rocmforge.engine.schedule import Schedule, ScheduledChunk


def request(token_ids: list[int], block_table: list[int]) -> Request:
    return Request(
        request_id=7,
        token_ids=array("i", token_ids),
        num_prompt_tokens=len(token_ids),
        max_num_tokens=100,
        block_table=array("i", block_table),
    )


def schedule(*chunks: ScheduledChunk) -> Schedule:
    return Schedule(
        list(chunks),
        num_tokens=sum(c.num_tokens for c in chunks),
        num_rows=sum(c.num_rows for c in chunks),
    )


@pytest.fixture
def builder() -> BatchBuilder:
    return BatchBuilder(max_num_tokens=16, max_num_seqs=4, max_model_len=20, block_size=4)


def values(batch: Batch) -> dict[str, list[object]]:
    return {name: getattr(batch, name).tolist() for name in Batch.__slots__}


def test_a_batch_lists_tokens_positions_and_slots_of_each_sequence(builder: BatchBuilder) -> None:
    middle = request([10, 11, 12, 13, 14, 15, 16], [5, 2])
    start = request([20, 21], [9])
    batch = builder.build(
        schedule(
            ScheduledChunk(middle, 3, 3, first_row=0, num_rows=0, source_row=-1),
            ScheduledChunk(start, 0, 2, first_row=0, num_rows=1, source_row=-1),
        )
    )
    assert values(batch) == {
        "token_ids": [13, 14, 15, 20, 21],
        "positions": [3, 4, 5, 0, 1],
        "slot_mapping": [5 * 4 + 3, 2 * 4, 2 * 4 + 1, 9 * 4, 9 * 4 + 1],
        "query_start_loc": [0, 3, 5],
        "seq_lens": [6, 2],
        "block_tables": [[5, 2], [9, -1]],
        "logit_rows": [4],
    }
    for name in Batch.__slots__:
        assert getattr(batch, name).dtype == np.int32
        assert getattr(batch, name).flags.c_contiguous


def test_an_id_not_known_yet_names_its_row_of_the_step_before(builder: BatchBuilder) -> None:
    req = request([1, 2, 3, 4], [0, 1])
    chunk = ScheduledChunk(req, 4, 1, first_row=0, num_rows=1, source_row=2)
    batch = builder.build(schedule(chunk))
    assert batch.token_ids.tolist() == [-3]
    assert batch.slot_mapping.tolist() == [4]


def test_a_request_that_wants_every_row_gets_every_row(builder: BatchBuilder) -> None:
    one, two = request([1, 2, 3], [0]), request([4, 5, 6, 7], [1])
    batch = builder.build(
        schedule(
            ScheduledChunk(one, 0, 3, first_row=0, num_rows=3, source_row=-1),
            ScheduledChunk(two, 2, 2, first_row=3, num_rows=2, source_row=-1),
        )
    )
    assert batch.logit_rows.tolist() == [0, 1, 2, 3, 4]


def test_arrays_are_reused_and_nothing_of_the_step_before_shows(builder: BatchBuilder) -> None:
    long = ScheduledChunk(request([1] * 16, [1, 2, 3, 4]), 0, 16, 0, 16, -1)
    first = builder.build(schedule(long))
    chunks = [ScheduledChunk(request([2], [0]), 0, 1, i, 1, -1) for i in range(4)]
    second = builder.build(schedule(*chunks))
    assert np.shares_memory(first.token_ids, second.token_ids)
    assert second.token_ids.tolist() == [2] * 4
    assert second.block_tables.tolist() == [[0]] * 4
    assert second.query_start_loc.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("token_ids", "block_table", "message"),
    [
        ([1, 2, 3, 4, 5], [0], "5 tokens, 1 blocks"),
        ([1, 2, 3, 4], [0, 1], "5 tokens, 4 known"),
    ],
)
def test_a_chunk_beyond_tokens_or_blocks_is_refused(
    builder: BatchBuilder, token_ids: list[int], block_table: list[int], message: str
) -> None:
    chunk = ScheduledChunk(request(token_ids, block_table), 4, 1, 0, 1, source_row=-1)
    with pytest.raises(ValueError, match=message):
        builder.build(schedule(chunk))
