from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_decoder import FakeDecoder, expected_row, expected_tokens

from rocmforge.engine.engine import Engine
from rocmforge.engine.events import logprobs_of_rows
from rocmforge.engine.messages import (
    Cancel,
    Event,
    Finished,
    LogprobsEvent,
    RowsEvent,
    Submit,
    TokenEvent,
)
from rocmforge.engine.request import RequestState
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.scheduler import MAX_LOGPROBS_ROWS, SchedulerConfig
from rocmforge.errors import (
    CapacityError,
    DeviceError,
    InvalidArgumentError,
    OutOfMemoryError,
    UnavailableError,
    UnsupportedError,
)


class Setup:
    """An engine over the fake decoder, stepped by the test."""

    def __init__(self, *, max_queue: int = 8, budget: int = 16, **decoder: Any) -> None:
        self.decoder = FakeDecoder(**decoder)
        config = SchedulerConfig(
            max_num_batched_tokens=budget,
            max_num_seqs=min(8, self.decoder.max_num_seqs),
            max_queue=max_queue,
        )
        self.events: list[Event] = []
        self.engine = Engine(self.decoder, config, self.events.extend, clock=lambda: 0.0)
        self._num_submitted = 0

    def submit(self, prompt: list[int], max_tokens: int = 4, **values: Any) -> int:
        self._num_submitted += 1
        params = values.pop("params", SamplingParams(max_tokens=max_tokens, temperature=1.0))
        if values.get("output", "tokens") != "tokens":
            params = None
        self.engine.submit(Submit(self._num_submitted, prompt, params, **values))
        return self._num_submitted

    def run(self) -> None:
        while self.engine.step():
            pass

    def tokens(self, request_id: int) -> list[int]:
        return [
            e.token_id
            for e in self.events
            if isinstance(e, TokenEvent) and e.request_id == request_id
        ]

    def finished(self, request_id: int) -> Finished:
        (event,) = [
            e for e in self.events if isinstance(e, Finished) and e.request_id == request_id
        ]
        return event

    def expected(self, prompt: list[int], max_tokens: int, **values: Any) -> tuple[list[int], str]:
        values = {"seed": 0, "max_model_len": self.decoder.max_model_len, **values}
        return expected_tokens(
            prompt, vocab_size=self.decoder.vocab_size, max_tokens=max_tokens, **values
        )


@pytest.fixture(params=[0, 1], ids=["lookahead0", "lookahead1"])
def lookahead(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_a_request_gets_its_tokens_and_one_last_event(lookahead: int) -> None:
    setup = Setup(lookahead=lookahead)
    request_id = setup.submit([1, 2, 3], max_tokens=5)
    setup.run()
    assert setup.tokens(request_id) == setup.expected([1, 2, 3], 5)[0]
    assert setup.events[-1] == Finished(
        request_id,
        "length",
        None,
        num_prompt_tokens=3,
        num_cached_tokens=0,
        num_output_tokens=5,
    )


def test_an_end_token_ends_a_request_and_is_delivered(lookahead: int) -> None:
    setup = Setup(lookahead=lookahead)
    tokens, _ = setup.expected([1, 2, 3], 9)
    stops = frozenset({tokens[4]})
    request_id = setup.submit([1, 2, 3], max_tokens=9, stop_token_ids=stops)
    setup.run()
    expected, reason = setup.expected([1, 2, 3], 9, stop_token_ids=stops)
    assert setup.tokens(request_id) == expected
    assert setup.finished(request_id).reason == reason == "stop"


def test_an_end_token_is_a_token_like_others_if_it_is_to_be_ignored() -> None:
    setup = Setup()
    tokens, _ = setup.expected([1, 2, 3], 9)
    params = SamplingParams(max_tokens=9, ignore_eos=True)
    request_id = setup.submit([1, 2, 3], params=params, stop_token_ids=frozenset({tokens[4]}))
    setup.run()
    assert setup.tokens(request_id) == tokens


def test_a_sequence_ends_at_the_context_limit(lookahead: int) -> None:
    setup = Setup(lookahead=lookahead, max_model_len=10)
    request_id = setup.submit([1, 2, 3], max_tokens=50)
    setup.run()
    assert len(setup.tokens(request_id)) == 7
    assert setup.finished(request_id).reason == "length"


def test_the_seed_of_the_params_takes_precedence() -> None:
    setup = Setup()
    own = setup.submit([1, 2], params=SamplingParams(max_tokens=4, seed=77), seed=5)
    given = setup.submit([1, 2], max_tokens=4, seed=5)
    setup.run()
    assert setup.tokens(own) == setup.expected([1, 2], 4, seed=77)[0]
    assert setup.tokens(given) == setup.expected([1, 2], 4, seed=5)[0]


def test_logprobs_are_of_the_token_and_the_likeliest() -> None:
    setup = Setup()
    request_id = setup.submit([1, 2], params=SamplingParams(max_tokens=1, logprobs=2))
    plain = setup.submit([1, 2], max_tokens=1)
    setup.run()
    (token,) = setup.tokens(request_id)
    events = {e.request_id: e for e in setup.events if isinstance(e, TokenEvent)}
    assert events[plain].logprobs is None
    expected = {token: -token / 100, 0: 0.0, 1: -0.01}
    assert events[request_id].logprobs == pytest.approx(expected)


@pytest.mark.parametrize("output", ["logits", "hidden"])
def test_rows_come_for_every_token_beside_requests_that_draw(output: str, lookahead: int) -> None:
    setup = Setup(lookahead=lookahead, budget=8)
    drawing = setup.submit([5, 6], max_tokens=20)
    setup.engine.step()
    prompt = list(range(20))
    request_id = setup.submit(prompt, output=output)
    setup.run()
    events = [e for e in setup.events if isinstance(e, RowsEvent)]
    assert [e.start for e in events] == [0, 8, 16]
    width = setup.decoder.vocab_size if output == "logits" else setup.decoder.hidden_size
    expected = np.array([expected_row(prompt[: i + 1], width) for i in range(20)])
    assert (np.concatenate([e.rows for e in events]) == expected).all()
    assert setup.finished(request_id).reason == "stop"
    assert setup.tokens(drawing) == setup.expected([5, 6], 20)[0]
    # They took turns: the one that draws did not wait for the other, nor the other way round.
    order = [type(e) for e in setup.events]
    assert TokenEvent in order[order.index(RowsEvent) : -order[::-1].index(RowsEvent) - 1]


def test_logprobs_of_a_prompt_are_those_of_its_logits_in_bounded_steps(lookahead: int) -> None:
    setup = Setup(
        lookahead=lookahead, budget=100, num_blocks=64, max_num_tokens=100, max_model_len=200
    )
    drawing = setup.submit([5, 6], max_tokens=20)
    prompt = [(i * 7) % 50 for i in range(150)]
    request_id = setup.submit(prompt, output="logprobs", num_logprobs=3)
    setup.submit(prompt[:90], output="hidden")
    setup.run()
    events = [e for e in setup.events if isinstance(e, LogprobsEvent)]
    assert all(len(e.logprobs) <= MAX_LOGPROBS_ROWS for e in events)
    assert [e.start for e in events] == [
        1 + sum(len(e.logprobs) for e in events[:i]) for i in range(len(events))
    ]
    found = [entry for event in events for entry in event.logprobs]
    assert len(found) == 149
    for i, entry in enumerate(found, 1):
        row = expected_row(prompt[:i], setup.decoder.vocab_size).astype(np.float64)
        exact = row - np.log(np.exp(row).sum())
        best = np.argsort(-exact)[:3].tolist()
        assert set(entry) == {prompt[i], *best}
        assert entry == pytest.approx({j: exact[j] for j in entry}, abs=1e-5)
    assert setup.finished(request_id).reason == "stop"
    assert setup.tokens(drawing) == setup.expected([5, 6], 20)[0]
    assert max(setup.decoder.row_counts) <= MAX_LOGPROBS_ROWS
    # Once that is done, a step of rows may have its whole budget again.
    setup.decoder.row_counts.clear()
    setup.submit(prompt, output="hidden")
    setup.run()
    assert max(setup.decoder.row_counts) == 100


def test_logprobs_of_one_token_are_none_at_all() -> None:
    setup = Setup()
    request_id = setup.submit([5], output="logprobs")
    setup.run()
    assert [e.logprobs for e in setup.events if isinstance(e, LogprobsEvent)] == [[]]
    assert setup.finished(request_id).reason == "stop"


@pytest.mark.parametrize("number", [-1, 21])
def test_more_logprobs_than_there_may_be_are_refused(number: int) -> None:
    with pytest.raises(InvalidArgumentError, match="num_logprobs"):
        Setup().submit([5], output="logprobs", num_logprobs=number)


def test_equally_likely_tokens_come_by_their_ids() -> None:
    rows = np.array([[1.0, 3.0, 3.0, 3.0, 0.0]], np.float32)
    (found,) = logprobs_of_rows(rows, [4], 2)
    assert list(found) == [4, 1, 2]
    (whole,) = logprobs_of_rows(rows, [4], 20)
    assert sum(np.exp(list(whole.values()))) == pytest.approx(1)


def test_rows_are_computed_even_where_the_cache_has_the_prompt() -> None:
    setup = Setup()
    prompt = list(range(10))
    setup.submit(prompt)
    setup.run()
    setup.submit(prompt, output="logits")
    setup.run()
    assert sum(len(e.rows) for e in setup.events if isinstance(e, RowsEvent)) == 10


def test_a_shared_prefix_is_computed_once_and_told(lookahead: int) -> None:
    setup = Setup(lookahead=lookahead)
    prompt = list(range(10))
    setup.submit(prompt, max_tokens=1)
    setup.run()
    before = setup.decoder.num_computed_tokens
    request_id = setup.submit(prompt, max_tokens=1)
    setup.run()
    assert setup.decoder.num_computed_tokens - before == 2
    assert setup.finished(request_id).num_cached_tokens == 8
    assert setup.engine.stats().cache.num_hit_tokens == 8


def test_blocks_computed_while_decoding_are_found_too() -> None:
    setup = Setup()
    first = setup.submit([1, 2, 3], max_tokens=10)
    setup.run()
    turn = [1, 2, 3, *setup.tokens(first), 9]
    second = setup.submit(turn, max_tokens=1)
    setup.run()
    assert setup.finished(second).num_cached_tokens == 12


def test_equal_prompts_submitted_together_are_computed_once() -> None:
    setup = Setup()
    prompt = list(range(13))
    ids = [setup.submit(prompt, max_tokens=3, seed=i) for i in range(4)]
    setup.run()
    assert [setup.finished(i).num_cached_tokens for i in ids] == [0, 12, 12, 12]
    assert setup.decoder.num_computed_tokens == 13 + 3 * 1 + 4 * 2
    for i, request_id in enumerate(ids):
        assert setup.tokens(request_id) == setup.expected(prompt, 3, seed=i)[0]


def test_the_extra_token_of_lookahead_is_dropped_and_its_slot_returned() -> None:
    setup = Setup(lookahead=1)
    tokens, _ = setup.expected([1, 2, 3], 9)
    stops = frozenset({tokens[0]})
    request_id = setup.submit([1, 2, 3], max_tokens=9, stop_token_ids=stops)
    setup.engine.step()
    assert setup.tokens(request_id) == []
    setup.engine.step()
    assert setup.tokens(request_id) == tokens[:1]
    # The step that computes the dropped token holds the block until it is collected.
    assert setup.engine.stats().cache.num_free == 63
    setup.run()
    assert setup.tokens(request_id) == tokens[:1]
    assert setup.decoder.num_computed_tokens == 4
    assert setup.engine.stats().cache.num_free == 64


def test_lookahead_runs_one_step_ahead() -> None:
    setup = Setup(lookahead=1)
    setup.submit([1, 2, 3], max_tokens=5)
    depths = []
    while setup.engine.step():
        depths.append(len(setup.decoder._in_flight))
    assert depths == [1, 1, 1, 1, 1]


def test_a_request_that_needs_the_host_ends_lookahead_for_its_steps_only() -> None:
    setup = Setup(lookahead=1)
    params = SamplingParams(max_tokens=3, repetition_penalty=1.5)
    penalized = setup.submit([1, 2], params=params)
    plain = setup.submit([3, 4], max_tokens=6)
    depths = []
    while setup.engine.step():
        depths.append(len(setup.decoder._in_flight))
    assert depths == [0, 0, 0, 1, 1, 1]
    assert setup.tokens(penalized) == setup.expected([1, 2], 3)[0]
    assert setup.tokens(plain) == setup.expected([3, 4], 6)[0]


def test_a_waiting_and_a_running_request_can_be_cancelled(lookahead: int) -> None:
    setup = Setup(lookahead=lookahead, max_num_seqs=1)
    running, waiting = setup.submit([1, 2], 30), setup.submit([3, 4], 30)
    for _ in range(3):
        setup.engine.step()
    assert setup.engine.state_of(running) is RequestState.RUNNING
    assert setup.engine.state_of(waiting) is RequestState.WAITING
    setup.engine.cancel(Cancel(waiting))
    setup.engine.cancel(Cancel(running))
    num_events = len(setup.events)
    setup.engine.step()
    assert [type(e) for e in setup.events[num_events:]] == [Finished, Finished]
    assert setup.finished(running).reason == setup.finished(waiting).reason == "cancelled"
    setup.run()
    assert setup.engine.state_of(running) is None
    assert setup.engine.stats().cache.num_free == 64
    assert setup.engine.stats().num_waiting == 0


def test_cancelling_before_the_first_step_or_twice_or_unknown_does_no_harm() -> None:
    setup = Setup()
    request_id = setup.submit([1, 2])
    setup.engine.cancel(Cancel(request_id))
    setup.engine.cancel(Cancel(request_id))
    setup.engine.cancel(Cancel(99))
    setup.run()
    assert setup.events == [setup.finished(request_id)]
    assert setup.finished(request_id).num_output_tokens == 0


def test_a_stop_string_found_by_the_receiver_ends_a_request_as_stopped() -> None:
    setup = Setup()
    request_id = setup.submit([1, 2], 30)
    setup.engine.step()
    setup.engine.cancel(Cancel(request_id, "stop"))
    setup.run()
    assert setup.finished(request_id).reason == "stop"
    assert setup.engine.stats().num_finished["stop"] == 1


def test_the_queue_is_bounded_and_makes_room_as_requests_start() -> None:
    setup = Setup(max_queue=2, max_num_seqs=1)
    setup.submit([1])
    setup.submit([2])
    with pytest.raises(CapacityError, match="all 2 places"):
        setup.submit([3])
    setup.engine.step()
    setup.submit([4])
    with pytest.raises(CapacityError):
        setup.submit([5])
    setup.run()
    assert setup.engine.stats().num_finished["length"] == 3


def test_a_request_that_waits_too_long_for_its_first_step_ends_and_no_other() -> None:
    setup = Setup(num_blocks=4, block_size=4, max_num_seqs=1)
    now = 0.0
    setup.engine._clock = lambda: now
    first = setup.submit([1, 2], max_tokens=6, max_wait_s=5.0)
    setup.engine.step()
    waiting = setup.submit([3], max_wait_s=5.0)
    patient = setup.submit([4])
    now = 5.0
    setup.engine.step()
    assert setup.engine.state_of(waiting) is RequestState.WAITING
    now = 5.1
    setup.engine.step()
    assert setup.engine.state_of(first) is RequestState.RUNNING
    assert setup.engine.state_of(patient) is RequestState.WAITING
    end = setup.finished(waiting)
    assert isinstance(end.error, UnavailableError)
    assert end.num_output_tokens == 0
    setup.run()
    assert setup.finished(first).reason == "length"
    assert setup.finished(patient).reason == "length"
    assert setup.engine.inbox.num_queued == 0


def test_a_preempted_request_has_had_its_first_step_and_may_wait() -> None:
    setup = Setup(num_blocks=4, block_size=2, max_num_seqs=2)
    now = 0.0
    setup.engine._clock = lambda: now
    ids = [setup.submit([i, 1], max_tokens=5, max_wait_s=1.0) for i in (2, 3)]
    setup.engine.step()
    now = 100.0
    setup.run()
    assert setup.engine.stats().num_preemptions > 0
    assert [setup.finished(i).reason for i in ids] == ["length", "length"]


@pytest.mark.parametrize(
    ("prompt", "values", "message"),
    [
        ([], {}, "no tokens"),
        ([1, -1], {}, "token id -1 is outside .* of 50"),
        ([1, 50], {}, "token id 50 is outside .* of 50"),
        ([1, 2**31], {}, "32-bit"),
        (["1"], {}, "32-bit"),
        ([1] * 64, {}, "prompt of 64 tokens leaves no room .* of 64"),
        ([1] * 65, {"output": "logits"}, "65 tokens do not fit into a context of 64"),
        ([1], {"params": None}, "needs sampling parameters"),
        ([1], {"params": SamplingParams(logit_bias={50: 1.0})}, "token id 50"),
    ],
)
def test_what_can_never_run_is_refused_at_once(
    prompt: list[int], values: dict[str, Any], message: str
) -> None:
    setup = Setup()
    with pytest.raises(InvalidArgumentError, match=message):
        setup.submit(prompt, **values)
    assert not setup.engine.step()
    assert not setup.events


def test_a_request_larger_than_the_pool_is_refused_at_once() -> None:
    setup = Setup(num_blocks=4, block_size=4)
    with pytest.raises(InvalidArgumentError, match=r"up to 18 tokens can never fit .* 16 tokens"):
        setup.submit([1] * 10, max_tokens=8)
    setup.submit([1] * 10, max_tokens=7)
    setup.run()
    assert setup.engine.stats().num_finished["length"] == 1


def test_structured_output_is_refused_as_unsupported() -> None:
    setup = Setup()
    with pytest.raises(UnsupportedError, match="structured"):
        setup.submit([1], params=SamplingParams(regex="a+"))


def test_a_request_id_in_use_is_refused() -> None:
    setup = Setup()
    setup.engine.submit(Submit(5, [1], SamplingParams()))
    with pytest.raises(InvalidArgumentError, match="5 is in use"):
        setup.engine.submit(Submit(5, [1], SamplingParams()))


def test_steps_larger_than_the_decoder_are_refused() -> None:
    config = SchedulerConfig(max_num_batched_tokens=64, max_num_seqs=4)
    with pytest.raises(InvalidArgumentError, match="steps of 32 tokens"):
        Engine(FakeDecoder(max_num_tokens=32), config, lambda events: None)  # noqa: ARG005


def test_a_row_without_a_token_ends_its_request_alone(lookahead: int) -> None:
    setup = Setup(lookahead=lookahead)
    setup.decoder.is_bad = lambda seed: seed == 13
    bad = setup.submit([1, 2], 8, seed=13)
    good = setup.submit([1, 2], 8, seed=14)
    setup.run()
    assert isinstance(setup.finished(bad).error, DeviceError)
    assert setup.tokens(good) == setup.expected([1, 2], 8, seed=14)[0]
    assert setup.engine.error is None


def test_an_exception_of_the_decoder_ends_all_and_makes_the_engine_unhealthy(
    lookahead: int,
) -> None:
    setup = Setup(lookahead=lookahead, max_num_seqs=1)
    running, waiting = setup.submit([1, 2], 30), setup.submit([3], 30)
    setup.engine.step()
    late = []

    def fail() -> None:
        if not late:  # submitted while the step runs
            late.append(setup.submit([4], 30))
        msg = "illegal address"
        raise RuntimeError(msg)

    setup.decoder.before_collect = fail
    setup.engine.step()
    error = setup.finished(running).error
    assert isinstance(error, DeviceError)
    assert "illegal address" in str(error)
    assert isinstance(error.__cause__, RuntimeError)
    for request_id in (waiting, *late):
        assert isinstance(setup.finished(request_id).error, UnavailableError)
    assert not setup.engine.stats().healthy
    assert setup.engine.stats().cache.num_free == 64
    with pytest.raises(UnavailableError, match="illegal address"):
        setup.submit([1])


@pytest.mark.parametrize("where", ["before_enqueue", "before_collect"])
@pytest.mark.parametrize("kind", [OutOfMemoryError, MemoryError])
def test_lack_of_memory_ends_what_runs_and_nothing_else(
    where: str, kind: type[Exception], lookahead: int
) -> None:
    setup = Setup(lookahead=lookahead, max_num_seqs=2)
    ids = [setup.submit([1, 2], 9, seed=1), setup.submit([3], 9, seed=2)]
    waiting = setup.submit([4, 5], 9, seed=3)
    setup.engine.step()
    setup.engine.step()

    def fail() -> None:
        setattr(setup.decoder, where, lambda: None)
        msg = "no room"
        raise kind(msg)

    setattr(setup.decoder, where, fail)
    setup.run()
    for request_id in ids:
        assert isinstance(setup.finished(request_id).error, OutOfMemoryError)
    assert setup.tokens(waiting) == setup.expected([4, 5], 9, seed=3)[0]
    assert setup.engine.error is None


def test_what_a_failed_step_should_have_computed_is_not_found_later() -> None:
    setup = Setup()
    prompt = list(range(12))

    def fail() -> None:
        setup.decoder.before_enqueue = lambda: None
        msg = "no room"
        raise OutOfMemoryError(msg)

    setup.decoder.before_enqueue = fail
    setup.submit(prompt)
    setup.run()
    again = setup.submit(prompt)
    setup.run()
    assert setup.finished(again).num_cached_tokens == 0
    assert setup.tokens(again) == setup.expected(prompt, 4)[0]


def test_the_end_tells_how_long_a_request_waited_computed_and_decoded() -> None:
    setup = Setup(budget=8, max_num_seqs=1, num_blocks=16)
    now = 0.0
    setup.engine._clock = lambda: now
    first = setup.submit(list(range(12)), max_tokens=3)
    second = setup.submit([1], max_tokens=1)
    given_up = setup.submit([2])
    for now in (1.0, 2.0, 4.0):  # noqa: B007 - read by the clock
        setup.engine.step()
    setup.engine.cancel(Cancel(given_up))
    now = 8.0
    setup.engine.step()
    now = 16.0
    setup.run()
    times = [
        (end.queue_s, end.prefill_s, end.decode_s)
        for end in map(setup.finished, (first, second, given_up))
    ]
    assert times == [(1.0, 1.0, 6.0), (16.0, 0.0, 0.0), (8.0, 0.0, 0.0)]


def test_an_idle_step_does_nothing() -> None:
    setup = Setup()
    assert not setup.engine.step()
    assert setup.engine.stats().num_steps == 0


def test_stats_tell_what_has_been_done() -> None:
    setup = Setup()
    setup.submit([1, 2, 3], 4)
    setup.submit([4, 5], 2)
    setup.run()
    stats = setup.engine.stats()
    assert (stats.num_prompt_tokens, stats.num_output_tokens) == (5, 6)
    assert (stats.num_waiting, stats.num_running) == (0, 0)
    assert stats.num_finished == {"stop": 0, "length": 2, "cancelled": 0, "error": 0}
    assert stats.num_steps == 4
    assert stats.cache.utilization == 0.0
