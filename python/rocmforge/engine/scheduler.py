"""Chooses, once per step, which tokens of which requests run together.

There is no prefill phase and no decode phase. A request is some number of tokens behind; each
step spends a token budget closing that gap, oldest request first. A long prompt takes several
steps (chunked prefill), a decoding request one token a step, and both share the batch. The idea
is that of Sarathi-Serve (Agrawal et al., OSDI 2024, arXiv:2403.02310).

Fairness. The next to be admitted is of the namespace (an API key's) that has the fewest running,
among those the oldest: who queues many requests delays himself. It cannot starve anybody: those of
a namespace that are overtaken have others of it running, and these end.

Progress. Running requests are served in order of arrival and only the newest is ever preempted, so
the oldest keeps its blocks; since each request fits into the pool alone (`check_fits`), it ends. A
request is admitted when there are blocks for all tokens it has, and one to spare for each running
request: a newcomer is not let in to be thrown out by the next block somebody needs.

Identical prompts. A request whose next block is being computed by a running request waits for it
instead of computing it again: of n equal prompts submitted together the first computes its full
blocks, the others start when they are published and compute the rest of the prompt only.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, deque
from dataclasses import dataclass

from rocmforge.engine.block_manager import BlockManager
from rocmforge.engine.request import FINAL_STATE, FinishReason, Request, RequestState
from rocmforge.engine.schedule import Schedule, ScheduledChunk
from rocmforge.errors import InvalidArgumentError

# A step that tells log-probabilities of prompts computes the logits of all its rows, which a client
# of a server decides on: 64 rows of 256 Ki tokens are 64 MiB, and still use every weight 64 times.
MAX_LOGPROBS_ROWS = 64


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Limits of a step and of the queue.

    `max_num_batched_tokens` is the most tokens in one step, over all requests, `max_num_seqs` the
    most requests running at once and `max_queue` the most that may wait for their first step.
    """

    max_num_batched_tokens: int = 512
    max_num_seqs: int = 64
    max_queue: int = 256

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1 or self.max_queue < 1:
            msg = (
                f"max_num_seqs={self.max_num_seqs} and max_queue={self.max_queue} "
                "must be at least 1"
            )
            raise InvalidArgumentError(msg)
        if self.max_num_batched_tokens < self.max_num_seqs:
            msg = (
                f"max_num_batched_tokens={self.max_num_batched_tokens} must allow one token for "
                f"each of max_num_seqs={self.max_num_seqs}"
            )
            raise InvalidArgumentError(msg)


def _arrival(request: Request) -> int:
    return request.arrival


class Scheduler:
    """First come, first served, but for fairness; see the module's notes."""

    def __init__(
        self, config: SchedulerConfig, blocks: BlockManager, *, whole_sequences: bool = False
    ) -> None:
        """With `whole_sequences` all tokens of a request go in one step, which has to hold them."""
        self.config = config
        self._whole_sequences = whole_sequences
        self.blocks = blocks
        self.waiting: deque[Request] = deque()  # by arrival
        self.running: list[Request] = []  # by arrival
        self.num_preemptions = 0
        self._num_arrivals = 0
        self._num_row_requests = 0  # waiting or running
        self._num_logprobs_requests = 0  # of these
        self._is_turn_of_rows = False
        self._promised: dict[bytes, Request] = {}  # digests of blocks being computed
        self._leaving: set[Request] = set()  # ended, with a step in flight that has their blocks

    def check_fits(self, max_num_tokens: int, *, draws_tokens: bool) -> None:
        """Refuses what could not run even alone. The last token drawn is never cached."""
        num_cached = max_num_tokens - 1 if draws_tokens else max_num_tokens
        if self.blocks.num_blocks_for(num_cached) > self.blocks.num_blocks:
            capacity = self.blocks.num_blocks * self.blocks.block_size
            msg = (
                f"a request of up to {max_num_tokens} tokens can never fit into a KV cache of "
                f"{capacity} tokens; shorten the prompt, lower max_tokens or enlarge the cache"
            )
            raise InvalidArgumentError(msg)

    def add(self, request: Request) -> None:
        self._num_arrivals += 1
        request.arrival = self._num_arrivals
        self._num_row_requests += request.wants_rows
        self._num_logprobs_requests += request.output == "logprobs"
        self.waiting.append(request)

    def schedule(self, *, may_preempt: bool = True) -> Schedule:
        """Picks the next step's chunks and reserves their KV blocks.

        With `may_preempt` False (a step is in flight, whose blocks must not change hands) the
        step ends where memory does, and asks to be collected before the next one.
        """
        step = Schedule()
        # A step draws tokens or hands out rows, never both: drawing alters the logits, and rows
        # of hidden states need none. Where both kinds are there, they take turns.
        if self._num_row_requests == 0:
            self._fill(step, wants_rows=False, may_preempt=may_preempt)
            return step
        for wants_rows in (self._is_turn_of_rows, not self._is_turn_of_rows):
            self._fill(step, wants_rows=wants_rows, may_preempt=may_preempt)
            if step.chunks or step.needs_host:
                self._is_turn_of_rows = not wants_rows
                break
        return step

    def _fill(self, step: Schedule, *, wants_rows: bool, may_preempt: bool) -> None:
        budget = self.config.max_num_batched_tokens
        if wants_rows and self._num_logprobs_requests:
            budget = min(budget, MAX_LOGPROBS_ROWS)
        preempted = False
        index = 0
        # Preemption takes from the tail, so never a request that has a chunk in this step.
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            index += 1
            num_tokens = self._share(request, budget)
            if num_tokens == 0 or request.wants_rows is not wants_rows:
                continue
            while not self.blocks.grow(request, request.num_scheduled_tokens + num_tokens):
                if not may_preempt:
                    step.needs_host = True
                    return
                preempted = True
                if self._preempt_newest() is request:
                    return
            step.append(request, num_tokens)
            budget -= num_tokens
        # Freed blocks are for the requests that asked for them.
        if not preempted:
            self._admit(step, budget, wants_rows=wants_rows)

    def _admit(self, step: Schedule, budget: int, *, wants_rows: bool) -> None:
        """Moves requests from `waiting` to `running` while tokens, places and blocks last.

        Nobody overtakes a request that lacks blocks; one that waits for a promised block is
        passed over.
        """
        if not self.waiting:
            return
        max_num_seqs = self.config.max_num_seqs
        shares = Counter(request.namespace for request in self.running)
        passed: set[Request] = set()
        while budget > 0 and len(passed) < min(len(self.waiting), max_num_seqs):
            num_running = len(self.running)
            if num_running == max_num_seqs or num_running >= self.blocks.num_free:
                return
            request = min(
                (waiting for waiting in self.waiting if waiting not in passed),
                key=lambda waiting: shares[waiting.namespace],  # of equals the first, the oldest
            )
            match = self.blocks.cache.match(request)
            if match.next_digest in self._promised:
                passed.add(request)
                continue
            if not self.blocks.admit(request, match, num_spare=num_running):
                return
            self.waiting.remove(request)
            shares[request.namespace] += 1
            insort(self.running, request, key=_arrival)
            request.move_to(RequestState.RUNNING)
            if not request.was_admitted:
                request.was_admitted = True
                request.num_cached_tokens = request.num_computed_tokens
                step.started.append(request)
            self._promise(request)
            num_tokens = self._share(request, budget)
            if num_tokens and request.wants_rows is wants_rows:
                step.append(request, num_tokens)
                budget -= num_tokens

    def _share(self, request: Request, budget: int) -> int:
        """Of the request's pending tokens, those that go into a step with room for `budget`."""
        num_pending = request.num_pending_tokens
        if self._whole_sequences and num_pending > budget:
            return 0  # it is among the running from now on, and the oldest has a step to itself
        return min(num_pending, budget)

    def complete(self, chunk: ScheduledChunk) -> None:
        """Accounts for a collected chunk. An ended request's blocks come back with its last."""
        request = chunk.request
        request.num_in_flight_steps -= 1
        if request.finish_reason is not None:
            if request.num_in_flight_steps == 0:
                self._leaving.remove(request)
                self.blocks.release(request)
            return
        request.num_computed_tokens += chunk.num_tokens
        num_published = request.num_published_blocks
        if request.num_computed_tokens // self.blocks.block_size > num_published:
            self.blocks.cache.publish(request)
            self._fulfil(request, num_published, request.num_published_blocks)

    def finish(self, request: Request, reason: FinishReason) -> None:
        """Ends a waiting or running request, at any point between two calls."""
        if request.state is RequestState.RUNNING:
            self.running.remove(request)
            self._fulfil(request, request.num_published_blocks, None)
        else:
            self.waiting.remove(request)
        request.move_to(FINAL_STATE[reason])
        request.finish_reason = reason
        self._num_row_requests -= request.wants_rows
        self._num_logprobs_requests -= request.output == "logprobs"
        if request.num_in_flight_steps:
            self._leaving.add(request)
        else:
            self.blocks.release(request)

    def forget_in_flight(self) -> None:
        """The decoder is gone, and with it the steps that were never collected."""
        for request in self.running:
            request.num_in_flight_steps = 0
            request.num_unknown_tokens = 0
        for request in self._leaving:
            request.num_in_flight_steps = 0
            self.blocks.release(request)
        self._leaving.clear()

    def _preempt_newest(self) -> Request:
        """Takes the newest request's blocks; it recomputes what the cache lost when readmitted."""
        victim = self.running.pop()
        assert victim.num_in_flight_steps == 0
        self._fulfil(victim, victim.num_published_blocks, None)
        self.blocks.release(victim)
        victim.num_computed_tokens = victim.num_scheduled_tokens = 0
        victim.move_to(RequestState.WAITING)
        insort(self.waiting, victim, key=_arrival)
        self.num_preemptions += 1
        return victim

    def _promise(self, request: Request) -> None:
        num_full = len(request.token_ids) // self.blocks.block_size
        digests = self.blocks.cache.extend_digests(request, num_full)
        for digest in digests[request.num_published_blocks : num_full]:
            self._promised.setdefault(digest, request)

    def _fulfil(self, request: Request, begin: int, end: int | None) -> None:
        """Ends the promise of the request's blocks [begin, end), computed or given up."""
        for digest in request.block_digests[begin:end]:
            if self._promised.get(digest) is request:
                del self._promised[digest]

    def check_integrity(self) -> None:
        """Asserts the invariants of queue, pool and cache. Slow: for tests and simulation."""
        config = self.config
        assert len(self.running) <= config.max_num_seqs
        for queue in (self.running, self.waiting):
            arrivals = [request.arrival for request in queue]
            assert arrivals == sorted(set(arrivals))
        assert all(r.state is RequestState.RUNNING for r in self.running)
        assert all(r.state is RequestState.WAITING and not r.block_table for r in self.waiting)
        assert all(r.finish_reason and r.num_in_flight_steps for r in self._leaving)
        num_row_requests = sum(r.wants_rows for r in [*self.waiting, *self.running])
        assert num_row_requests == self._num_row_requests
        num_logprobs = sum(r.output == "logprobs" for r in [*self.waiting, *self.running])
        assert num_logprobs == self._num_logprobs_requests
        assert set(self._promised.values()) <= set(self.running)
        for request in self.running:
            num_known = len(request.token_ids)
            assert request.num_computed_tokens <= request.num_scheduled_tokens
            assert request.num_scheduled_tokens <= num_known + request.num_unknown_tokens
            num_blocks = self.blocks.num_blocks_for(request.num_scheduled_tokens)
            assert len(request.block_table) >= num_blocks
        self.blocks.check_integrity([*self.running, *self._leaving])
