"""What goes in on one side of the wire comes out on the other, however the bytes are cut."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest

from rocmforge.engine.config import EngineConfig
from rocmforge.engine.messages import (
    Accepted,
    Cancel,
    Finished,
    Heartbeat,
    Loaded,
    LoadFailed,
    LogprobsEvent,
    Message,
    RowsEvent,
    Start,
    Submit,
    TokenEvent,
)
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.stats import CacheStats, EngineStats
from rocmforge.engine.wire import MAX_FRAME_BYTES, FrameReader, encode
from rocmforge.errors import CapacityError, DeviceError, InvalidArgumentError

STATS = EngineStats(
    healthy=True,
    num_waiting=1,
    num_running=2,
    cache=CacheStats(10, 16, 3, 4, 5),
    num_steps=6,
    busy_s=0.5,
    num_prompt_tokens=7,
    num_output_tokens=8,
    num_preemptions=9,
    num_finished={"stop": 1, "length": 2, "cancelled": 3, "error": 4},
)
PARAMS = SamplingParams(seed=2**64 - 1, stop=("a", "é"), logit_bias={3: -1.5}, json_schema={})
MESSAGES: list[Message] = [
    Start(None, EngineConfig(max_num_seqs=3)),
    Start("model.gguf", EngineConfig()),
    Loaded("m", [("layer 0", "cpu", "why")], 3, 0.25, 64, 512, 32, "last", False),
    Submit(1, [1, 2], PARAMS, seed=2**63, namespace="n", stop_token_ids=frozenset({2})),
    Submit(2, [3], None, output="hidden", max_wait_s=1.5),
    Submit(3, [3], None, output="hidden", pooling="cls"),
    Submit(2, [3], None, output="logprobs", num_logprobs=4),
    Cancel(1),
    Cancel(1, "stop"),
    Accepted(1),
    TokenEvent(1, 5, None),
    TokenEvent(1, 5, {5: -0.5, 7: -1.25}),
    LogprobsEvent(1, 1, [{3: -0.5, 4: -2.0}, {5: -1.0}]),
    Finished(1, "length", None, 1, 2, 3, 0.25, 0.5, 1.5),
    Heartbeat(STATS, 4096, 2**63),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    assert FrameReader().feed(b"".join(encode([message]))) == [message]


def test_messages_arrive_in_order_when_the_bytes_come_one_by_one() -> None:
    reader = FrameReader()
    data = b"".join(encode(MESSAGES))
    assert [m for byte in data for m in reader.feed(bytes([byte]))] == MESSAGES


def test_messages_of_one_step_share_a_frame() -> None:
    assert len(list(encode([TokenEvent(i, i, None) for i in range(64)]))) == 1
    assert list(encode([])) == []


def test_an_error_arrives_with_its_class_and_text() -> None:
    sent = [Finished(1, "error", CapacityError("full"), 0, 0, 0), LoadFailed(OSError("gone"))]
    finished, failed = FrameReader().feed(b"".join(encode(sent)))
    assert isinstance(finished, Finished)
    assert isinstance(finished.error, CapacityError)
    assert str(finished.error) == "full"
    assert isinstance(failed, LoadFailed)
    assert str(failed.error) == "gone"


def test_rows_too_large_for_a_frame_arrive_in_pieces_that_join_up() -> None:
    rows = np.arange(5000 * 1024, dtype=np.float32).reshape(5000, 1024)
    frames = list(encode([RowsEvent(1, 7, rows)]))
    assert max(map(len, frames)) < MAX_FRAME_BYTES
    events = FrameReader().feed(b"".join(frames))
    start = 7
    for event in events:
        assert isinstance(event, RowsEvent)
        assert event.start == start
        start += len(event.rows)
    assert np.array_equal(np.concatenate([event.rows for event in events]), rows)


def test_a_message_too_large_for_a_frame_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="over the limit of 16777216"):
        list(encode([Submit(1, [2**31 - 1] * 4_000_000, None)]))


def test_a_number_beyond_64_bits_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="beyond 64 bits"):
        list(encode([Submit(1, [2**64], None)]))


@pytest.mark.parametrize(
    "data",
    [
        (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        b"\0\0\0\1\xc1",
        b"\0\0\0\3\x93\1\1",
        b"\0\0\0\2\x90\x90",
        *(
            len(body).to_bytes(4, "big") + body
            for body in map(
                msgpack.packb,
                [7, [7], [[]], [["eval", "1"]], [["token", 1]], [["start", None, {"x": 1}]]],
            )
        ),
    ],
)
def test_bytes_that_the_other_side_would_never_send_are_refused(data: bytes) -> None:
    with pytest.raises(DeviceError):
        FrameReader().feed(data)


def test_parameters_out_of_range_are_refused_on_arrival() -> None:
    data = b"".join(encode([Submit(1, [1], SamplingParams(max_tokens=77))]))
    with pytest.raises(DeviceError, match="max_tokens"):
        FrameReader().feed(data.replace(b"max_tokens\x4d", b"max_tokens\xff"))
