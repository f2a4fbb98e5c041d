"""Drives a real engine over the fake decoder, step by step, and checks its invariants after each.

Everything is drawn from one seed: the sizes of pool and step, the arrivals, cancellations, faults
and how it ends. The letters are those of the invariants in the reliability notes of the project:
I1-I5 pool and cache, I6 progress of each sequence, I7 the tokens a client sees, I8 usage, I9
progress, I10 limits, I11 deadlines, I12 cancellation, I13 nothing left behind, I14 states, I15
counters, I16 namespaces, I17 draining, I18 admission.
"""

from __future__ import annotations

import itertools
import random
from collections import deque

from fake_decoder import FakeDecoder
from simulated_client import Client, SimulatedGrammar

from rocmforge.engine.engine import Engine
from rocmforge.engine.messages import Cancel, Event, Finished, Submit
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.scheduler import SchedulerConfig
from rocmforge.engine.stats import EngineStats
from rocmforge.errors import (
    CapacityError,
    DeviceError,
    InvalidArgumentError,
    OutOfMemoryError,
    UnavailableError,
)

VOCAB_SIZE = 30
HOUR_S = 3600.0


class Simulation:
    def __init__(self, seed: int, *, lookahead: int | None = None) -> None:
        self.rng = random.Random(seed)
        rng = self.rng
        block_size = rng.choice([1, 2, 3, 4, 8])
        max_model_len = rng.randint(block_size + 2, 40)
        max_num_seqs = rng.randint(1, 6)
        self.decoder = FakeDecoder(
            num_blocks=rng.randint(3, 30),
            block_size=block_size,
            vocab_size=VOCAB_SIZE,
            lookahead=rng.randint(0, 1) if lookahead is None else lookahead,
            max_num_tokens=rng.randint(max_num_seqs, 24),
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
        )
        self.config = SchedulerConfig(
            max_num_batched_tokens=rng.randint(max_num_seqs, self.decoder.max_num_tokens),
            max_num_seqs=max_num_seqs,
            max_queue=rng.choice([2, 5, 50]),
        )
        self.engine = Engine(
            self.decoder,
            self.config,
            self._deliver,
            compile_grammar=lambda params: SimulatedGrammar(
                int(params.regex or params.grammar or 0), fails=params.grammar is not None
            ),
            clock=lambda: self.now,
        )
        self.decoder.is_bad = lambda seed: seed % 16 == 15
        self.now = 0.0
        self.clients: dict[int, Client] = {}
        self.log: list[str] = []  # what happened, in order
        self.num_faults = 0
        self._open: dict[int, Client] = {}  # those that something can still be wrong with
        self._recent: deque[int] = deque(maxlen=20)
        self._ids = itertools.count(1)
        self._oldest: tuple[object, ...] = ()
        self._steps_without_progress = 0
        self._stats: EngineStats = self.engine.stats()
        self._fault: Exception | None = None
        self._fault_place = "enqueue"
        self._is_device_lost = self._is_closed = False
        # Each run uses a random part of what can happen.
        self._share_prefixes = rng.random() < 0.7
        self._cancel_rate = rng.choice([0, 0, 0.1, 0.4])
        self._oom_rate = rng.choice([0, 0, 0, 0.05])
        self._row_rate = rng.choice([0, 0, 0.2])
        self._penalty_rate = rng.choice([0, 0.2])
        self._bad_rate = rng.choice([0, 0, 0.1])
        self._wait_rate = rng.choice([0, 0, 0.3])
        self._logprobs_rate = rng.choice([0, 0, 0.3])
        self._grammar_rate = rng.choice([0, 0, 0.2])
        self._ending = rng.choice(["drain", "drain", "close", "lose the device"])
        self._prefixes = [self._random_tokens(rng.randint(1, 20)) for _ in range(3)]
        self.decoder.before_enqueue = lambda: self._raise_fault("enqueue")
        self.decoder.before_collect = lambda: self._raise_fault("collect")

    # --- what happens

    def run(self, num_turns: int) -> None:
        rng = self.rng
        for _ in range(num_turns):
            self.now += rng.random() if rng.random() < 0.99 else HOUR_S
            if rng.random() < 0.4:
                self.submit()
            if rng.random() < self._cancel_rate and self._recent:
                self.cancel(rng.choice(self._recent), rng.choice(["cancelled", "stop"]))
            if rng.random() < self._oom_rate:
                self.num_faults += 1
                self._fault = OutOfMemoryError("no memory for this step")
                self._fault_place = rng.choice(["enqueue", "collect"])
            self.step()
        if self._ending == "close":
            self.close()
        elif self._ending == "lose the device":
            self.lose_device()
        self.drain()

    def drain(self) -> None:
        """Everything that was accepted ends, and nothing is left of it."""
        live = [c for c in self.clients.values() if c.finished is None]
        most_steps = 8 * self.decoder.max_model_len * len(live) + 8
        for _ in range(most_steps):
            if not self.step():
                break
        assert not self.engine.has_work
        assert all(client.finished is not None for client in self.clients.values())
        assert not self.engine.inbox._live  # I13
        assert not self.engine.inbox.has_messages
        assert self.engine.inbox.num_queued == 0
        assert not self.engine.scheduler._promised
        assert not self.engine.scheduler._leaving
        assert self.engine.scheduler.blocks.num_free == self.decoder.num_blocks

    def submit(self) -> None:
        submit = self._random_submit()
        try:
            self.engine.submit(submit)
        except CapacityError:
            waiting = sum(not r.was_admitted for r in self.engine.inbox._live.values())
            assert waiting == self.config.max_queue
            self._note("full", submit.request_id)
        except InvalidArgumentError:
            assert not self._can_run(submit)
            self._note("refused", submit.request_id)
        except UnavailableError:
            assert self.engine.error is not None
        else:
            assert self._can_run(submit)  # I18
            assert not self._is_closed  # I17
            client = Client(submit, self.decoder, self.now)
            self.clients[submit.request_id] = self._open[submit.request_id] = client
            self._recent.append(submit.request_id)
            self._note("submit", submit.request_id)

    def cancel(self, request_id: int, reason: str = "cancelled") -> None:
        self.engine.cancel(Cancel(request_id, reason))
        client = self.clients[request_id]
        if client.finished is None and client.steps_since_cancel is None:
            client.steps_since_cancel, client.cancel_reason = 0, reason
        self._note(reason, request_id)

    def close(self) -> None:
        """As a host does that is told to end: nothing more is taken, all requests end at once."""
        self._is_closed = True
        self.engine.stop(UnavailableError("it has been closed"))
        self.submit()
        self.engine.end_all("cancelled")
        assert all(client.finished is not None for client in self.clients.values())

    def lose_device(self) -> None:
        """Every further call of the decoder fails."""
        self.num_faults += 1
        self._fault = DeviceError("the device is lost")
        self._is_device_lost = True

    def step(self) -> bool:
        more = self.engine.step()
        self.check()
        return more

    # --- what must hold

    def check(self) -> None:
        if self.engine.error is not None and not (self._is_device_lost or self._is_closed):
            raise self.engine.error
        scheduler = self.engine.scheduler
        scheduler.check_integrity()  # I1-I5, I10, I14, I16: a chain begins with it
        queued = [r for r in self.engine.inbox._live.values() if not r.was_admitted]
        assert len(queued) == self.engine.inbox.num_queued <= self.config.max_queue
        assert all(request.start_before >= self.now for request in queued)  # I11
        for request in scheduler.running:
            client = self.clients[request.request_id]
            assert request.namespace == client.submit.namespace  # I16
            assert request.output_token_ids == client.token_ids  # I7: no gap, no duplicate
            in_flight = request.num_scheduled_tokens - request.num_computed_tokens
            assert in_flight == self._num_tokens_in_flight(request.request_id)  # I6
        for request_id, client in list(self._open.items()):
            if client.steps_since_cancel is not None:
                client.steps_since_cancel += 1
                assert client.finished is not None  # I12
                if client.steps_since_cancel < 2:
                    continue
                assert all(r.request_id != request_id for r in scheduler._leaving)
            if client.finished is not None:
                del self._open[request_id]
        self._check_progress()
        self._check_stats()

    def _check_progress(self) -> None:
        """I9: the oldest running request moves at least every third step."""
        running = self.engine.scheduler.running
        if not running:
            return
        oldest = running[0]
        state = (oldest.request_id, oldest.num_scheduled_tokens, oldest.num_computed_tokens)
        self._steps_without_progress = (
            self._steps_without_progress + 1 if state == self._oldest else 0
        )
        self._oldest = state
        assert self._steps_without_progress < 3

    def _num_tokens_in_flight(self, request_id: int) -> int:
        return sum(
            chunk.num_tokens
            for _, step in self.engine._in_flight
            for chunk in step.chunks
            if chunk.request.request_id == request_id
        )

    def _check_stats(self) -> None:
        old, new = self._stats, self.engine.stats()
        for name in ("num_steps", "busy_s", "num_prompt_tokens", "num_output_tokens"):
            assert getattr(new, name) >= getattr(old, name)  # I15
        assert new.num_preemptions >= old.num_preemptions
        assert new.cache.num_hit_tokens >= old.cache.num_hit_tokens
        assert all(new.num_finished[r] >= n for r, n in old.num_finished.items())
        self._stats = new

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            self._note(type(event).__name__, event.request_id)
            client = self.clients[event.request_id]
            client.take(event, self.now, is_closed=self._is_closed, is_lost=self._is_device_lost)
            if isinstance(event, Finished):
                self.num_faults += event.reason == "error"

    # --- what is drawn

    def _random_submit(self) -> Submit:
        rng = self.rng
        wants_rows = rng.random() < self._row_rate
        seed = rng.randrange(2**40) * 16 + (15 if rng.random() < self._bad_rate else 0)
        kind = rng.choice(["regex", "grammar"]) if rng.random() < self._grammar_rate else None
        params = SamplingParams(
            max_tokens=rng.randint(1, 30),
            temperature=1.0,
            repetition_penalty=1.1 if rng.random() < self._penalty_rate else 1.0,
            logprobs=rng.randint(0, 5) if rng.random() < self._logprobs_rate else None,
            **({kind: str(rng.randint(1, 12))} if kind else {}),
        )
        return Submit(
            request_id=next(self._ids),
            prompt_token_ids=self._random_prompt(),
            params=None if wants_rows else params,
            seed=seed,
            output=rng.choice(["logits", "hidden", "logprobs"]) if wants_rows else "tokens",
            namespace=rng.choice(["", "", "other"]),
            stop_token_ids=frozenset({1}) if rng.random() < 0.8 else frozenset(),
            max_wait_s=rng.choice([0.5, 3, 9]) if rng.random() < self._wait_rate else None,
            num_logprobs=rng.randint(0, 4),
        )

    def _random_prompt(self) -> list[int]:
        rng = self.rng
        prompt = list(rng.choice(self._prefixes)) if self._share_prefixes else []
        if prompt and rng.random() < 0.3:  # near-shared
            prompt[rng.randrange(len(prompt))] = rng.randrange(VOCAB_SIZE)
        prompt = prompt[: rng.randint(0, len(prompt))] if rng.random() < 0.2 else prompt
        return prompt + self._random_tokens(rng.choice([0, 0, 1, 2, 9, 30]))

    def _random_tokens(self, num_tokens: int) -> list[int]:
        return [self.rng.randrange(VOCAB_SIZE) for _ in range(num_tokens)]

    def _can_run(self, submit: Submit) -> bool:
        """Whether the request fits into context and pool, worst case."""
        num_tokens, limit = len(submit.prompt_token_ids), self.decoder.max_model_len
        capacity = self.decoder.num_blocks * self.decoder.block_size
        if submit.params is None:
            return 0 < num_tokens <= min(limit, capacity)
        most = min(num_tokens + submit.params.max_tokens, limit)
        return 0 < num_tokens < limit and most - 1 <= capacity

    def _raise_fault(self, place: str) -> None:
        fault = self._fault
        if fault is not None and self._is_device_lost:
            raise fault
        if fault is not None and place == self._fault_place:
            self._fault = None
            raise fault

    def _note(self, what: str, request_id: int) -> None:
        self.log.append(f"{self.engine._counters.num_steps} {what} {request_id}")
