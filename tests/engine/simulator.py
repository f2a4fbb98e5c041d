"""Drives a real engine over the fake decoder, step by step, and checks its invariants after each.

Everything is drawn from one seed: the sizes of pool and step, the arrivals, cancellations and
faults. The letters are those of the invariants in the reliability notes of the project: I1-I5
pool and cache, I6 progress of each sequence, I7 the tokens a client sees, I8 usage, I9 progress,
I10 limits, I12 cancellation, I13 nothing left behind, I14 states, I15 counters, I16 namespaces,
I18 admission.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from fake_decoder import FakeDecoder, expected_row, expected_tokens

from rocmforge.engine.engine import Engine
from rocmforge.engine.messages import Cancel, Event, Finished, RowsEvent, Submit, TokenEvent
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


@dataclass
class Client:
    """One request as its sender sees it."""

    submit: Submit
    token_ids: list[int] = field(default_factory=list)
    num_rows: int = 0
    finished: Finished | None = None
    steps_since_cancel: int | None = None


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
        self.engine = Engine(self.decoder, self.config, self._deliver, clock=self._clock)
        self.decoder.is_bad = lambda seed: seed % 16 == 15
        self.clients: dict[int, Client] = {}
        self.log: list[str] = []  # what happened, in order
        self._num_submitted = 0
        self._num_ticks = 0
        self._oldest: tuple[object, ...] = ()
        self._steps_without_progress = 0
        self._stats: EngineStats = self.engine.stats()
        self._fault: Exception | None = None
        self._fault_place = "enqueue"
        self._is_device_lost = False
        # Each run uses a random part of what can happen.
        self._share_prefixes = rng.random() < 0.7
        self._cancel_rate = rng.choice([0, 0, 0.1, 0.4])
        self._oom_rate = rng.choice([0, 0, 0, 0.05])
        self._row_rate = rng.choice([0, 0, 0.2])
        self._penalty_rate = rng.choice([0, 0.2])
        self._bad_rate = rng.choice([0, 0, 0.1])
        self._prefixes = [self._random_tokens(rng.randint(1, 20)) for _ in range(3)]
        self.decoder.before_enqueue = lambda: self._raise_fault("enqueue")
        self.decoder.before_collect = lambda: self._raise_fault("collect")

    # --- what happens

    def run(self, num_turns: int) -> None:
        for _ in range(num_turns):
            if self.rng.random() < 0.4:
                self.submit()
            if self.rng.random() < self._cancel_rate and self.clients:
                self.cancel(self.rng.choice(list(self.clients)))
            if self.rng.random() < self._oom_rate:
                self._fault = OutOfMemoryError("no memory for this step")
                self._fault_place = self.rng.choice(["enqueue", "collect"])
            self.step()
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
            self.clients[submit.request_id] = Client(submit)
            self._note("submit", submit.request_id)

    def cancel(self, request_id: int) -> None:
        self.engine.cancel(Cancel(request_id))
        client = self.clients[request_id]
        if client.finished is None and client.steps_since_cancel is None:
            client.steps_since_cancel = 0
        self._note("cancel", request_id)

    def lose_device(self) -> None:
        """Every further call of the decoder fails."""
        self._fault = DeviceError("the device is lost")
        self._is_device_lost = True

    def step(self) -> bool:
        more = self.engine.step()
        self.check()
        return more

    # --- what must hold

    def check(self) -> None:
        if self.engine.error is not None and not self._is_device_lost:
            raise self.engine.error
        scheduler = self.engine.scheduler
        scheduler.check_integrity()  # I1-I5, I10, I14
        waiting = sum(not r.was_admitted for r in self.engine.inbox._live.values())
        assert waiting == self.engine.inbox.num_queued <= self.config.max_queue
        for request in scheduler.running:
            client = self.clients[request.request_id]
            assert request.output_token_ids == client.token_ids  # I7: no gap, no duplicate
            in_flight = request.num_scheduled_tokens - request.num_computed_tokens
            assert in_flight == self._num_tokens_in_flight(request.request_id)  # I6
        for client in self.clients.values():
            if client.steps_since_cancel is not None:
                client.steps_since_cancel += 1
                assert client.finished is not None  # I12
                if client.steps_since_cancel >= 2:
                    assert all(r.request_id != client.submit.request_id for r in scheduler._leaving)
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
        assert all(new.num_finished[r] >= n for r, n in old.num_finished.items())
        self._stats = new

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            client = self.clients[event.request_id]
            assert client.finished is None, "an event after the last"
            self._note(type(event).__name__, event.request_id)
            if isinstance(event, TokenEvent):
                assert client.steps_since_cancel is None, "a token after cancellation"
                client.token_ids.append(event.token_id)
            elif isinstance(event, RowsEvent):
                self._check_rows(client, event)
            else:
                client.finished = event
                self._check_finished(client, event)

    def _check_rows(self, client: Client, event: RowsEvent) -> None:
        prompt = list(client.submit.prompt_token_ids)
        assert event.start == client.num_rows or event.start == 0  # 0 after a preemption
        width = VOCAB_SIZE if client.submit.output == "logits" else self.decoder.hidden_size
        for i, row in enumerate(event.rows):
            assert (row == expected_row(prompt[: event.start + i + 1], width)).all()
        client.num_rows = event.start + len(event.rows)

    def _check_finished(self, client: Client, event: Finished) -> None:
        submit = client.submit
        assert event.num_output_tokens == len(client.token_ids)  # I8
        assert event.num_prompt_tokens == len(submit.prompt_token_ids)
        assert (event.error is not None) == (event.reason == "error")
        if submit.output != "tokens":
            complete = client.num_rows == len(submit.prompt_token_ids)
            assert complete == (event.reason == "stop")
            return
        assert submit.params is not None
        token_ids, reason = expected_tokens(
            submit.prompt_token_ids,
            seed=submit.seed,
            vocab_size=VOCAB_SIZE,
            max_tokens=submit.params.max_tokens,
            max_model_len=self.decoder.max_model_len,
            stop_token_ids=submit.stop_token_ids,
        )
        assert token_ids[: len(client.token_ids)] == client.token_ids  # I7
        if event.reason in {"stop", "length"}:
            assert (client.token_ids, event.reason) == (token_ids, reason)
        elif event.reason == "cancelled":
            assert client.steps_since_cancel is not None
        elif not self._is_device_lost:
            bad = "no token can be drawn" in str(event.error) and self.decoder.is_bad(submit.seed)
            assert bad or isinstance(event.error, OutOfMemoryError)

    # --- what is drawn

    def _random_submit(self) -> Submit:
        rng = self.rng
        self._num_submitted += 1
        wants_rows = rng.random() < self._row_rate
        seed = rng.randrange(2**40) * 16 + (15 if rng.random() < self._bad_rate else 0)
        params = SamplingParams(
            max_tokens=rng.randint(1, 30),
            temperature=1.0,
            repetition_penalty=1.1 if rng.random() < self._penalty_rate else 1.0,
        )
        return Submit(
            request_id=self._num_submitted,
            prompt_token_ids=self._random_prompt(),
            params=None if wants_rows else params,
            seed=seed,
            output=rng.choice(["logits", "hidden"]) if wants_rows else "tokens",
            namespace=rng.choice(["", "", "other"]),
            stop_token_ids=frozenset({1}) if rng.random() < 0.8 else frozenset(),
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

    def _clock(self) -> float:
        self._num_ticks += 1
        return float(self._num_ticks)
