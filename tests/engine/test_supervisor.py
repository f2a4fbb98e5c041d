"""The engine in a process of its own, killed, stopped and overfilled."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from rocmforge.engine import child, supervisor
from rocmforge.engine.child import EngineChild, spawn
from rocmforge.engine.config import EngineConfig
from rocmforge.engine.llm import LLM
from rocmforge.engine.messages import Cancel, Event, Finished, Submit, TokenEvent
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.supervisor import EngineSupervisor, RemoteRequest
from rocmforge.errors import (
    CapacityError,
    InvalidArgumentError,
    RocmForgeError,
    UnavailableError,
)

CONFIG = EngineConfig(max_model_len=512, memory_fraction=0.05, threads=1, max_num_seqs=4)
PROMPT = [1, 403, 407]
PATIENCE_S = 30.0
Result = TypeVar("Result")


@asynccontextmanager
async def running(config: EngineConfig = CONFIG) -> AsyncIterator[EngineSupervisor]:
    engine = EngineSupervisor(None, config)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def submit(engine: EngineSupervisor, max_tokens: int = 8, **params: object) -> Submit:
    settings = SamplingParams(max_tokens=max_tokens, temperature=0, ignore_eos=True, **params)  # type: ignore[arg-type]
    return Submit(engine.new_id(), PROMPT, settings)


async def to_the_end(request: RemoteRequest) -> list[Event]:
    events: list[Event] = []
    while not (events and isinstance(events[-1], Finished)):
        events += await request.get()
    return events


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def within_5_seconds(work: Awaitable[Result]) -> Result:
    """Time in which the machine gives this process none does not count."""
    ending = asyncio.ensure_future(work)
    listened_s = 0.0
    while not ending.done():
        await asyncio.wait({ending}, timeout=0.05)
        listened_s += 0.05
    assert listened_s < 5
    return ending.result()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 2 * PATIENCE_S)

    asyncio.run(bounded())


def test_the_process_gives_the_tokens_that_an_engine_in_this_process_gives() -> None:
    with LLM(max_model_len=512, memory_fraction=0.05, threads=1) as llm:
        params = SamplingParams(max_tokens=40, temperature=0, ignore_eos=True)
        expected = llm.generate(PROMPT, params)[0]

    async def test() -> None:
        async with running() as engine:
            events = await to_the_end(await engine.submit(submit(engine, 40)))
            assert [e.token_id for e in events if isinstance(e, TokenEvent)] == expected.token_ids
            end = events[-1]
            assert isinstance(end, Finished)
            assert (end.reason, end.num_prompt_tokens, end.num_output_tokens) == ("length", 3, 40)
            assert engine.num_live == 0

    run(test)


def test_a_model_that_cannot_be_loaded_is_reported_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "not.gguf"
    path.write_bytes(b"GGUF but not really")

    async def test() -> None:
        engine = EngineSupervisor(str(path), CONFIG)
        with pytest.raises(RocmForgeError, match=r"not\.gguf"):
            await engine.start()
        assert not engine.is_ready

    run(test)


def test_what_can_never_run_is_refused_and_the_next_request_runs() -> None:
    async def test() -> None:
        async with running() as engine:
            too_long = Submit(engine.new_id(), [1] * 600, SamplingParams())
            with pytest.raises(InvalidArgumentError, match="600 tokens"):
                await engine.submit(too_long)
            with pytest.raises(InvalidArgumentError, match="regex"):
                await engine.submit(submit(engine, regex="("))
            assert len(await to_the_end(await engine.submit(submit(engine)))) == 9

    run(test)


def test_a_full_queue_is_told_at_once() -> None:
    async def test() -> None:
        async with running(EngineConfig(max_model_len=512, max_num_seqs=1, max_queue=1)) as engine:
            first = await engine.submit(submit(engine, 400))
            await first.get()
            await engine.submit(submit(engine, 400))
            with pytest.raises(CapacityError):
                await engine.submit(submit(engine))

    run(test)


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with running() as engine:
            for settings in ({}, {"regex": "[a-z]{200}"}):
                request = await engine.submit(submit(engine, 400, **settings))
                await request.get()
                engine.cancel(Cancel(request.submit.request_id))
                assert engine.num_live == 0
            waiting = asyncio.ensure_future(engine.submit(submit(engine, 400, regex="[b-y]{300}")))
            await asyncio.sleep(0)  # sent, not yet accepted
            waiting.cancel()
            ended = {"stop": 0, "length": 0, "cancelled": 3, "error": 0}
            await until(lambda: engine.heartbeat.stats.num_finished == ended)  # type: ignore[union-attr]
            assert engine.heartbeat.stats.cache.utilization == 0  # type: ignore[union-attr]

    run(test)


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGSTOP], ids=lambda s: s.name)
def test_a_dead_or_hung_process_is_noticed_and_replaced(signal_: signal.Signals) -> None:
    async def test() -> None:
        async with running() as engine:
            before = await to_the_end(await engine.submit(submit(engine, 40)))
            request = await engine.submit(submit(engine, 400))
            await request.get()
            pid = engine.pid
            assert pid is not None
            os.kill(pid, signal_)
            end = (await within_5_seconds(to_the_end(request)))[-1]
            assert isinstance(end, Finished)
            assert isinstance(end.error, UnavailableError)
            assert not engine.is_ready
            with pytest.raises(UnavailableError):
                await engine.submit(submit(engine))
            await until(lambda: engine.is_ready)
            assert engine.pid != pid
            assert engine.num_restarts == 1
            again = await to_the_end(await engine.submit(submit(engine, 40)))
            assert [e.token_id for e in again[:-1]] == [e.token_id for e in before[:-1]]  # type: ignore[union-attr]

    run(test)


def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[bool] = []

    async def spawn_at_second_try(now: float) -> EngineChild:
        starts.append(len(starts) > 0)
        if not starts[-1]:
            raise OSError(11, "Resource temporarily unavailable")
        return await spawn(now)

    monkeypatch.setattr(supervisor, "MIN_BACKOFF_S", 0.02)

    async def test() -> None:
        async with running() as engine:
            monkeypatch.setattr(supervisor, "spawn", spawn_at_second_try)
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            await until(lambda: engine.num_restarts == 1)
            await until(lambda: engine.is_ready)
            assert starts == [False, True]

    run(test)


def test_a_process_is_not_blamed_for_the_time_in_which_nobody_listened() -> None:
    ahead = 0.0

    async def test() -> None:
        nonlocal ahead
        engine = EngineSupervisor(None, CONFIG, clock=lambda: time.monotonic() + ahead)
        await engine.start()
        pid = engine.pid
        ahead = 1e5  # as after a loop that was held up for so long
        beats = engine.num_heartbeats
        await until(lambda: engine.num_heartbeats > beats + 1 or engine.pid != pid)
        assert engine.pid == pid
        assert len(await to_the_end(await engine.submit(submit(engine)))) == 9
        await engine.close()

    run(test)


@asynccontextmanager
async def stepping_oddly(
    monkeypatch: pytest.MonkeyPatch, step_s: float, piece_s: float
) -> AsyncIterator[EngineSupervisor]:
    """From the third step on a step takes so long, and tells of a piece of it so often."""
    program = (str(Path(__file__).parent / "odd_engine.py"), str(step_s), str(piece_s))
    monkeypatch.setattr(supervisor, "spawn", lambda now: spawn(now, program))
    async with running() as engine:
        assert len(await to_the_end(await engine.submit(submit(engine, 2)))) == 3
        yield engine


def test_an_engine_that_hangs_in_a_step_is_noticed_within_5_seconds_and_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with stepping_oddly(monkeypatch, 1000, 1000) as engine:
            pid, beats = engine.pid, engine.num_heartbeats
            request = await engine.submit(submit(engine))
            end = (await within_5_seconds(to_the_end(request)))[-1]
            assert engine.num_heartbeats > beats + 4  # it was not silent
            assert isinstance(end, Finished)
            assert isinstance(end.error, UnavailableError)
            assert "did none of it" in str(end.error)
            await until(lambda: engine.is_ready)
            assert engine.pid != pid
            assert len(await to_the_end(await engine.submit(submit(engine, 2)))) == 3

    run(test)


def test_a_step_that_takes_long_but_gets_on_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STALL_TIMEOUT_S", 1.5)

    async def test() -> None:
        async with stepping_oddly(monkeypatch, 4.0, 0.25) as engine:
            pid = engine.pid
            events = await to_the_end(await engine.submit(submit(engine, 1)))
            assert isinstance(events[0], TokenEvent)
            assert engine.pid == pid

    run(test)


def test_an_idle_engine_is_not_taken_for_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STALL_TIMEOUT_S", 0.8)

    async def test() -> None:
        async with running() as engine:
            pid, beats = engine.pid, engine.num_heartbeats
            await until(lambda: engine.num_heartbeats > beats + 4)
            assert engine.pid == pid

    run(test)


def test_requests_in_flight_end_when_the_engine_is_closed() -> None:
    async def test() -> None:
        async with running() as engine:
            request = await engine.submit(submit(engine, 400))
            pid = engine.pid
        end = (await to_the_end(request))[-1]
        assert isinstance(end, Finished)
        assert isinstance(end.error, UnavailableError)
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)

    run(test)


def test_the_process_ends_with_the_one_that_started_it() -> None:
    async def test() -> None:
        async with running() as engine:
            assert engine._child is not None
            process = engine._child.process
            for ignored in (signal.SIGINT, signal.SIGTERM):
                process.send_signal(ignored)
            assert len(await to_the_end(await engine.submit(submit(engine)))) == 9
            engine._child.writer.close()  # what the system does for a process that is gone
            await until(lambda: process.poll() is not None)

    run(test)
