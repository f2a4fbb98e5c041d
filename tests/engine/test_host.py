from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest
from fake_decoder import FakeDecoder, expected_tokens
from fake_session import PATIENCE_S, Gate, wait_for

from rocmforge.engine.engine import Engine
from rocmforge.engine.host import EngineHost
from rocmforge.engine.messages import Cancel, Event, Finished, Submit, TokenEvent
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.scheduler import SchedulerConfig
from rocmforge.errors import CapacityError, InvalidArgumentError, UnavailableError

VOCAB_SIZE = 50


def make(lookahead: int = 0, max_queue: int = 256) -> tuple[EngineHost, FakeDecoder]:
    decoder = FakeDecoder(lookahead=lookahead, vocab_size=VOCAB_SIZE, num_blocks=40)
    config = SchedulerConfig(max_num_batched_tokens=16, max_num_seqs=4, max_queue=max_queue)
    return EngineHost(decoder, config), decoder


def submit(host: EngineHost, prompt: list[int], max_tokens: int = 5, seed: int = 0) -> Submit:
    return Submit(host.new_id(), prompt, SamplingParams(max_tokens=max_tokens), seed=seed)


def until_finished(channel: SimpleQueue[list[Event]]) -> tuple[list[int], Finished]:
    token_ids = []
    while True:
        for event in channel.get(timeout=PATIENCE_S):
            if isinstance(event, TokenEvent):
                token_ids.append(event.token_id)
            elif isinstance(event, Finished):
                return token_ids, event


@pytest.mark.parametrize("lookahead", [0, 1])
def test_many_threads_get_their_own_tokens_whatever_the_others_cancel(lookahead: int) -> None:
    host, decoder = make(lookahead)

    def client(number: int) -> None:
        rng = random.Random(number)
        for _ in range(25):
            prompt = [rng.randrange(VOCAB_SIZE) for _ in range(rng.randint(1, 20))]
            max_tokens = rng.randint(1, 20)
            channel: SimpleQueue[list[Event]] = SimpleQueue()
            request = submit(host, prompt, max_tokens, seed=number)
            host.submit(request, channel)
            cancels = rng.random() < 0.5
            if cancels:
                time.sleep(rng.random() * 0.002)
                host.cancel(Cancel(request.request_id))
            token_ids, finished = until_finished(channel)
            expected, _ = expected_tokens(
                prompt,
                seed=number,
                vocab_size=VOCAB_SIZE,
                max_tokens=max_tokens,
                max_model_len=decoder.max_model_len,
            )
            assert finished.error is None
            assert finished.num_output_tokens == len(token_ids)
            assert token_ids == expected[: len(token_ids)]
            assert token_ids == expected or (cancels and finished.reason == "cancelled")
            assert channel.empty()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))
    wait_for(lambda: host.stats().cache.num_free == 40)
    stats = host.stats()
    assert sum(stats.num_finished.values()) == 8 * 25
    assert (stats.num_waiting, stats.num_running) == (0, 0)
    host._engine.scheduler.check_integrity()
    assert not host._router.channels
    assert not host._engine.inbox.num_live
    host.close()


def test_the_queue_bound_holds_against_many_submitters() -> None:
    host, decoder = make(max_queue=5)
    gate = Gate()
    decoder.before_enqueue = gate.wait
    channel: SimpleQueue[list[Event]] = SimpleQueue()
    # Four of these are admitted in the step that waits at the gate, and leave the queue.
    first = [submit(host, [1]) for _ in range(4)]
    for request in first:
        host.submit(request, channel)
    wait_for(lambda: gate.has_come)
    running = host.stats().num_running
    accepted: list[bool] = []

    def client() -> None:
        for _ in range(10):
            try:
                host.submit(submit(host, [2]), channel)
            except CapacityError:
                accepted.append(False)
            else:
                accepted.append(True)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(accepted) == 5 - (4 - running)
    gate.open()
    wait_for(lambda: not host._engine.inbox.num_live)
    host.close()


def test_a_refused_request_leaves_nothing_behind() -> None:
    host, _ = make()
    channel: SimpleQueue[list[Event]] = SimpleQueue()
    with pytest.raises(InvalidArgumentError):
        host.submit(submit(host, []), channel)
    assert not host._router.channels
    host.close()


def test_an_idle_engine_sleeps() -> None:
    host, _ = make()
    channel: SimpleQueue[list[Event]] = SimpleQueue()
    host.submit(submit(host, [1]), channel)
    until_finished(channel)
    turns: list[bool] = []
    step = host._engine.step

    def counted() -> bool:
        turns.append(step())
        return turns[-1]

    host._engine.step = counted  # type: ignore[method-assign]
    time.sleep(0.1)
    assert len(turns) == 0
    host.submit(submit(host, [1]), channel)
    until_finished(channel)
    assert turns
    host.close()


def test_close_ends_what_runs_as_cancelled_and_refuses_the_rest() -> None:
    host, decoder = make()
    gate = Gate()
    decoder.before_enqueue = gate.wait
    channel: SimpleQueue[list[Event]] = SimpleQueue()
    for _ in range(6):
        host.submit(submit(host, [1], max_tokens=30), channel)
    closing = threading.Thread(target=host.close)
    closing.start()
    gate.let_through(2)
    wait_for(lambda: host._engine.error is not None)
    gate.open()
    closing.join()
    reasons = []
    while not channel.empty():
        reasons += [e.reason for e in channel.get() if isinstance(e, Finished)]
    assert reasons == ["cancelled"] * 6
    with pytest.raises(UnavailableError, match="closed"):
        host.submit(submit(host, [1]), channel)
    host.close()


def test_a_device_failure_reaches_every_waiter_and_ends_the_thread() -> None:
    host, decoder = make()

    def fail() -> None:
        msg = "lost"
        raise RuntimeError(msg)

    gate = Gate()
    decoder.before_enqueue = gate.wait
    decoder.before_collect = fail
    channels: list[SimpleQueue[list[Event]]] = [SimpleQueue() for _ in range(6)]
    for channel in channels:
        host.submit(submit(host, [1]), channel)
    gate.open()
    for channel in channels:
        _, finished = until_finished(channel)
        assert finished.error is not None
    assert not host.stats().healthy
    host.close()


def test_a_defect_of_the_engine_itself_reaches_every_waiter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        msg = "a defect"
        raise AssertionError(msg)

    monkeypatch.setattr(Engine, "_fail", broken)
    host, decoder = make()

    def fail() -> None:
        msg = "lost"
        raise RuntimeError(msg)

    decoder.before_enqueue = fail
    channel: SimpleQueue[list[Event]] = SimpleQueue()
    host.submit(submit(host, [1]), channel)
    _, finished = until_finished(channel)
    assert isinstance(finished.error, UnavailableError)
    assert "a defect" in str(finished.error)
    host.close()


def test_the_thread_ends_with_its_host() -> None:
    host, _ = make()
    (thread,) = [t for t in threading.enumerate() if t.name == "rocmforge-engine"]
    del host
    gc.collect()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_an_interpreter_that_leaves_an_engine_running_exits_cleanly() -> None:
    code = """
from rocmforge import LLM, SamplingParams
llm = LLM(threads=1, max_num_seqs=1)
stream = llm.stream("Once", SamplingParams(max_tokens=400, ignore_eos=True))
print(len(next(stream).token_ids))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "1\n", "")
