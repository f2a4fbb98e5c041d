from __future__ import annotations

from array import array
from itertools import count

import pytest

from rocmforge.engine.block_manager import BlockManager, CacheConfig
from rocmforge.engine.request import Request, RequestState
from rocmforge.engine.sampling import SamplerState, SamplingParams
from rocmforge.engine.schedule import Schedule
from rocmforge.engine.scheduler import Scheduler, SchedulerConfig
from rocmforge.errors import InvalidArgumentError

_ids = count()


def request(prompt: int | list[int], max_tokens: int = 8, namespace: str = "") -> Request:
    """A prompt of its own tokens, or of these."""
    request_id = next(_ids)
    token_ids = (
        [1000 * request_id + i for i in range(prompt)] if isinstance(prompt, int) else prompt
    )
    return Request(
        request_id,
        array("i", token_ids),
        len(token_ids),
        max_num_tokens=len(token_ids) + max_tokens,
        sampler=SamplerState(SamplingParams(), [], 10, 0),
        namespace=namespace,
    )


def make(num_blocks: int = 8, budget: int = 8, max_num_seqs: int = 4) -> Scheduler:
    config = SchedulerConfig(max_num_batched_tokens=budget, max_num_seqs=max_num_seqs)
    return Scheduler(config, BlockManager(CacheConfig(num_blocks, block_size=4)))


def add(scheduler: Scheduler, *requests: Request) -> None:
    for req in requests:
        scheduler.add(req)


def collect(scheduler: Scheduler, step: Schedule, *, token_id: int = 0) -> None:
    """As the engine does: every request that is due draws `token_id`."""
    for chunk in step.chunks:
        req = chunk.request
        scheduler.complete(chunk)
        if req.finish_reason is None and chunk.num_rows:
            req.num_unknown_tokens -= 1
            req.token_ids.append(token_id)
            if len(req.token_ids) == req.max_num_tokens:
                scheduler.finish(req, "length")
    scheduler.check_integrity()


def run_step(scheduler: Scheduler) -> list[tuple[Request, int]]:
    step = scheduler.schedule()
    scheduler.check_integrity()
    collect(scheduler, step)
    return [(chunk.request, chunk.num_tokens) for chunk in step.chunks]


def test_a_long_prompt_is_chunked_and_shares_steps_with_decodes() -> None:
    scheduler = make()
    short, long = request(3), request(11)
    add(scheduler, short, long)
    assert run_step(scheduler) == [(short, 3), (long, 5)]
    assert run_step(scheduler) == [(short, 1), (long, 6)]
    assert run_step(scheduler) == [(short, 1), (long, 1)]


def test_only_the_chunk_that_ends_a_prompt_draws_a_token() -> None:
    scheduler = make()
    long = request(11)
    add(scheduler, long)
    first = scheduler.schedule()
    assert [(c.start, c.num_tokens, c.num_rows) for c in first.chunks] == [(0, 8, 0)]
    assert first.num_draws == 0
    collect(scheduler, first)
    second = scheduler.schedule()
    assert [(c.start, c.num_tokens, c.num_rows) for c in second.chunks] == [(8, 3, 1)]
    assert second.num_draws == 1


def test_a_step_keeps_to_its_token_budget_and_places() -> None:
    scheduler = make(num_blocks=64, budget=8, max_num_seqs=3)
    add(scheduler, *(request(2) for _ in range(5)))
    assert [n for _, n in run_step(scheduler)] == [2, 2, 2]
    assert len(scheduler.waiting) == 2


def test_the_newest_is_preempted_and_not_readmitted_in_the_same_step() -> None:
    scheduler = make(num_blocks=5)
    old, new, later = request(4), request(8), request(1)
    add(scheduler, old, new)
    assert run_step(scheduler) == [(old, 4), (new, 4)]
    add(scheduler, later)
    assert run_step(scheduler) == [(old, 1), (new, 4)]
    assert [len(old.block_table), len(new.block_table)] == [2, 2]
    # new takes the last block; then old needs one at its ninth token.
    assert run_step(scheduler) == [(old, 1), (new, 1)]
    run_step(scheduler)
    run_step(scheduler)
    assert run_step(scheduler) == [(old, 1)]
    assert list(scheduler.waiting) == [new, later]
    assert new.state is RequestState.WAITING
    assert new.num_computed_tokens == 0
    assert scheduler.num_preemptions == 1


def test_a_preempted_request_finds_its_blocks_again() -> None:
    scheduler = make(num_blocks=8)
    old, new = request(4), request(8)
    add(scheduler, old, new)
    run_step(scheduler)
    run_step(scheduler)
    scheduler._preempt_newest()
    scheduler.check_integrity()
    step = scheduler.schedule()
    assert [(c.request, c.start) for c in step.chunks] == [(old, 5), (new, 8)]


def test_a_request_that_lacks_blocks_is_not_overtaken() -> None:
    scheduler = make(num_blocks=4)
    running, big, small = request(4), request(12), request(1)
    add(scheduler, running, big, small)
    assert run_step(scheduler) == [(running, 4)]
    assert list(scheduler.waiting) == [big, small]


def test_who_queues_many_requests_does_not_hold_up_another() -> None:
    scheduler = make(num_blocks=40, budget=20, max_num_seqs=2)
    many = [request(3, namespace="many") for _ in range(6)]
    few = [request(3, namespace="few") for _ in range(2)]
    add(scheduler, *many, *few)
    scheduler.schedule()
    assert scheduler.running == [many[0], few[0]]
    assert list(scheduler.waiting) == [*many[1:], few[1]]


def test_those_of_one_namespace_come_in_order_and_all_of_them_come() -> None:
    """However many arrive of the other one meanwhile."""
    scheduler = make(num_blocks=40, budget=20, max_num_seqs=2)
    own = [request(3, max_tokens=4, namespace="own") for _ in range(5)]
    add(scheduler, *own)
    ended: list[Request] = []
    for _ in range(40):
        add(scheduler, request(3, max_tokens=4, namespace="other"))
        run_step(scheduler)
        ended += [req for req in own if req.finish_reason and req not in ended]
    assert ended == own


def test_admission_leaves_a_block_for_each_running_request() -> None:
    scheduler = make(num_blocks=4)
    running, other = request(4), request(12)
    add(scheduler, running)
    run_step(scheduler)
    add(scheduler, other)
    run_step(scheduler)
    assert other in scheduler.waiting
    scheduler.finish(running, "cancelled")
    assert run_step(scheduler) == [(other, 8)]


def test_everyone_ends_in_a_pool_that_holds_one_at_a_time() -> None:
    scheduler = make(num_blocks=5, budget=8)
    requests = [request(n, max_tokens=9) for n in (4, 11, 6, 9, 1, 12)]
    add(scheduler, *requests)
    for _ in range(200):
        run_step(scheduler)
    assert all(req.finish_reason == "length" for req in requests)
    assert scheduler.blocks.num_free == 5
    # Thrash would show here: each request is thrown out about once.
    assert scheduler.num_preemptions <= len(requests)


def test_finish_returns_every_block() -> None:
    scheduler = make()
    req = request(8)
    add(scheduler, req)
    run_step(scheduler)
    assert scheduler.blocks.num_free == 6
    scheduler.finish(req, "stop")
    assert scheduler.blocks.num_free == 8
    assert req.state is RequestState.FINISHED
    scheduler.check_integrity()


def test_a_waiting_request_can_be_cancelled() -> None:
    scheduler = make()
    req = request(8)
    add(scheduler, req)
    scheduler.finish(req, "cancelled")
    assert req.state is RequestState.CANCELLED
    assert not scheduler.schedule().chunks


def test_an_ended_request_cannot_move() -> None:
    scheduler = make()
    req = request(8)
    add(scheduler, req)
    scheduler.finish(req, "cancelled")
    with pytest.raises(AssertionError):
        req.move_to(RequestState.RUNNING)


def test_equal_prompts_are_computed_once() -> None:
    scheduler = make(num_blocks=32, budget=32, max_num_seqs=8)
    requests = [request([*range(11)]) for _ in range(4)]
    other = request(3)
    add(scheduler, *requests, other)
    # The first computes; one with a prompt of its own does not wait for it.
    assert run_step(scheduler) == [(requests[0], 11), (other, 3)]
    assert run_step(scheduler) == [
        (requests[0], 1),
        (other, 1),
        (requests[1], 3),
        (requests[2], 3),
        (requests[3], 3),
    ]
    assert {tuple(r.block_table[:2]) for r in requests} == {tuple(requests[0].block_table[:2])}


def test_a_promised_block_that_never_comes_is_computed_by_the_next() -> None:
    scheduler = make(num_blocks=32, budget=8, max_num_seqs=8)
    first, second = request([*range(20)]), request([*range(20)])
    add(scheduler, first, second)
    assert run_step(scheduler) == [(first, 8)]
    assert run_step(scheduler) == [(first, 8)]
    scheduler.finish(first, "cancelled")
    assert run_step(scheduler) == [(second, 4)]


def test_a_step_in_flight_forbids_preemption_until_it_is_collected() -> None:
    scheduler = make(num_blocks=4)
    old, new = request(7), request(1)
    add(scheduler, old, new)
    for _ in range(3):
        run_step(scheduler)
    in_flight = scheduler.schedule()
    assert [c.num_tokens for c in in_flight.chunks] == [1, 1]
    # All four blocks are taken, and new's fifth token needs one more.
    blocked = scheduler.schedule(may_preempt=False)
    assert [c.request for c in blocked.chunks] == [old]
    assert blocked.needs_host
    assert len(new.block_table) == 1
    collect(scheduler, in_flight)
    collect(scheduler, blocked)
    assert [c.request for c in scheduler.schedule().chunks] == [old]
    assert new.state is RequestState.WAITING


def test_blocks_of_a_request_that_ends_stay_until_its_last_step_is_collected() -> None:
    scheduler = make()
    req = request(6)
    add(scheduler, req)
    first = scheduler.schedule()
    second = scheduler.schedule(may_preempt=False)
    assert [c.source_row for c in second.chunks] == [0]
    scheduler.complete(first.chunks[0])
    scheduler.finish(req, "stop")
    scheduler.check_integrity()
    assert scheduler.blocks.num_free == 6
    scheduler.complete(second.chunks[0])
    scheduler.check_integrity()
    assert scheduler.blocks.num_free == 8


def test_a_draw_that_is_sure_to_be_the_last_is_not_followed_by_a_step() -> None:
    scheduler = make()
    req = request(6, max_tokens=1)
    add(scheduler, req)
    assert scheduler.schedule().num_draws == 1
    assert not scheduler.schedule(may_preempt=False).chunks


@pytest.mark.parametrize(("num_tokens", "fits"), [(33, True), (34, False)])
def test_what_exceeds_the_whole_pool_is_refused_at_once(num_tokens: int, fits: bool) -> None:
    scheduler = make(num_blocks=8)  # 32 tokens; the last one drawn is never cached
    if fits:
        scheduler.check_fits(num_tokens, draws_tokens=True)
    else:
        with pytest.raises(InvalidArgumentError, match=r"34 tokens can never fit .* 32 tokens"):
            scheduler.check_fits(num_tokens, draws_tokens=True)
    with pytest.raises(InvalidArgumentError, match="never fit"):
        scheduler.check_fits(33, draws_tokens=False)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs=0"),
        ({"max_queue": 0}, "max_queue=0"),
        ({"max_num_batched_tokens": 3, "max_num_seqs": 4}, "max_num_batched_tokens=3"),
    ],
)
def test_senseless_limits_are_refused(limits: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        SchedulerConfig(**limits)
