"""The step loop: inbox, schedule, batch, decoder, update, outbox.

`Engine` belongs to the one thread that calls step(); submit(), cancel() and stats() may be called
from any. Nothing here waits, so a test or a simulator can drive it step by step.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from rocmforge.engine.admission import CompileGrammar, make_request
from rocmforge.engine.batch import BatchBuilder
from rocmforge.engine.block_manager import BlockManager, CacheConfig
from rocmforge.engine.decoder import Decoder, StepOutput, logprobs_of
from rocmforge.engine.events import finished_event, row_event
from rocmforge.engine.failures import StepOutOfMemory, typed_error
from rocmforge.engine.inbox import Inbox
from rocmforge.engine.messages import Cancel, Event, Submit, TokenEvent
from rocmforge.engine.request import FinishReason, Request, RequestState
from rocmforge.engine.sampling import SamplerState, SamplingBatch, SamplingBatchBuilder
from rocmforge.engine.schedule import Schedule
from rocmforge.engine.scheduler import Scheduler, SchedulerConfig
from rocmforge.engine.stats import Counters, EngineStats
from rocmforge.errors import (
    DeviceError,
    InvalidArgumentError,
    RocmForgeError,
    UnavailableError,
)

_logger = logging.getLogger(__name__)

# Receives the events of a step, in order, on the engine's thread. Must not raise or block.
Publish = Callable[[list[Event]], None]


class Engine:
    """Owns the requests, the KV blocks and the decoder.

    A request that fails ends alone. An exception of the decoder ends all running requests; unless
    it is a MemoryError, the engine is unhealthy from then on: waiting requests end with
    UnavailableError and new ones are refused with it.
    """

    def __init__(
        self,
        decoder: Decoder,
        config: SchedulerConfig,
        publish: Publish,
        *,
        compile_grammar: CompileGrammar | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        most = (decoder.max_num_tokens, decoder.max_num_seqs)
        if config.max_num_batched_tokens > most[0] or config.max_num_seqs > most[1]:
            msg = (
                f"the decoder was built for steps of {most[0]} tokens of {most[1]} sequences, "
                f"not {config.max_num_batched_tokens} of {config.max_num_seqs}"
            )
            raise InvalidArgumentError(msg)
        if not decoder.is_causal:  # a sequence has to go in one step
            config = replace(config, max_num_batched_tokens=decoder.max_num_tokens)
        self.config = config
        blocks = BlockManager(CacheConfig(decoder.num_blocks, decoder.block_size))
        self.scheduler = Scheduler(config, blocks, whole_sequences=not decoder.is_causal)
        self.inbox = Inbox(config.max_queue)
        self._decoder = decoder
        self._publish = publish
        self._compile_grammar = compile_grammar
        self._clock = clock
        self._batches = BatchBuilder(
            config.max_num_batched_tokens,
            config.max_num_seqs,
            decoder.max_model_len,
            decoder.block_size,
        )
        self._samplings = SamplingBatchBuilder(config.max_num_seqs, decoder.vocab_size)
        self._in_flight: deque[tuple[int, Schedule]] = deque()
        self._events: list[Event] = []
        self._counters = Counters()

    # --- any thread

    def submit(self, submit: Submit) -> None:
        """Queues a request.

        Raises InvalidArgumentError for one that can never run, CapacityError if the queue is full
        and UnavailableError if the engine has failed or is closed.
        """
        decoder = self._decoder
        most = decoder.max_model_len
        request = make_request(
            submit,
            vocab_size=decoder.vocab_size,
            max_model_len=most if decoder.is_causal else min(most, decoder.max_num_tokens),
            is_causal=decoder.is_causal,
            compile_grammar=self._compile_grammar,
        )
        self.scheduler.check_fits(request.max_num_tokens, draws_tokens=not request.wants_rows)
        request.submitted_at = self._clock()
        if submit.max_wait_s is not None:
            request.start_before = request.submitted_at + submit.max_wait_s
        self.inbox.submit(request)

    def cancel(self, cancel: Cancel) -> None:
        self.inbox.cancel(cancel)

    def stop(self, error: Exception) -> None:
        """Refuses new requests with `error`; the loop's thread then ends the others."""
        self.inbox.stop(error)

    def state_of(self, request_id: int) -> RequestState | None:
        """None for a request that is unknown or has ended."""
        request = self.inbox.get(request_id)
        return None if request is None else request.state

    @property
    def error(self) -> Exception | None:
        """Why the engine accepts nothing any more; None while it is healthy."""
        return self.inbox.error

    def stats(self) -> EngineStats:
        return self._counters.snapshot(self.scheduler, self.inbox, self._decoder)

    @property
    def progress(self) -> int:
        """A number that changes while a step gets on."""
        return self._decoder.progress

    # --- the loop's thread

    @property
    def has_work(self) -> bool:
        return bool(self._in_flight or self.scheduler.running or self.scheduler.waiting)

    def step(self) -> bool:
        """One turn of the loop. Returns whether there is more to do without new messages."""
        started_at = self._clock()
        try:
            self._drain_inbox()
            self._end_overdue(started_at)
            if self.has_work:
                self._turn()
                self._counters.num_steps += 1
                self._counters.busy_s += self._clock() - started_at
        except StepOutOfMemory as error:
            self._drop_running(error)
        except Exception as error:  # noqa: BLE001 - every caller must hear of it
            self._fail(error)
        self._flush()
        return self.has_work

    def end_all(self, reason: FinishReason, error: Exception | None = None) -> None:
        """Ends every request, whatever its state, and drops the steps in flight."""
        self._drain_inbox()
        self._in_flight.clear()
        self.scheduler.forget_in_flight()
        for request in [*self.scheduler.running, *self.scheduler.waiting]:
            self._end(request, reason, error)
        self._flush()

    def _drain_inbox(self) -> None:
        for message in self.inbox.take():
            if isinstance(message, Request):
                self.scheduler.add(message)
            else:
                request = self.inbox.get(message.request_id)
                if request is not None:
                    self._end(request, message.reason, None)

    def _end_overdue(self, now: float) -> None:
        waiting = self.scheduler.waiting
        for request in [r for r in waiting if r.start_before < now and not r.was_admitted]:
            msg = "the request has waited too long for its first step; try again later"
            self._end(request, "error", UnavailableError(msg))

    def _turn(self) -> None:
        step = self.scheduler.schedule(may_preempt=not self._in_flight)
        if step.started:
            self._count_started(step.started)
        if step.chunks:
            batch = self._batches.build(step)
            sampling = self._sampling_of(step)
            try:
                handle = self._decoder.enqueue(batch, sampling)
            except MemoryError as error:
                raise StepOutOfMemory from error
            self._in_flight.append((handle, step))
        assert self._in_flight, "requests are waiting, yet nothing runs and nothing can start"
        keep = 0 if step.needs_host or not step.chunks else self._decoder.lookahead
        while len(self._in_flight) > keep:
            handle, done = self._in_flight.popleft()
            self._update(done, handle, self._collect(handle))

    def _collect(self, handle: int) -> StepOutput:
        try:
            return self._decoder.collect(handle)
        except MemoryError as error:
            raise StepOutOfMemory from error

    def _count_started(self, requests: list[Request]) -> None:
        self.inbox.admitted(len(requests))
        now = self._clock()
        for request in requests:
            request.started_at = now
            self._counters.num_prompt_tokens += request.num_prompt_tokens
            self._counters.num_hit_tokens += request.num_cached_tokens

    def _sampling_of(self, step: Schedule) -> SamplingBatch | None:
        states: list[SamplerState] = []
        positions: list[int] = []
        for chunk in step.chunks:
            sampler = chunk.request.sampler
            if chunk.num_rows and sampler is not None:
                states.append(sampler)
                positions.append(chunk.start + chunk.num_tokens)
        return self._samplings.build(states, positions) if states else None

    def _update(self, step: Schedule, handle: int, output: StepOutput) -> None:
        """Takes over what a step computed and drew."""
        token_ids = output.token_ids.tolist()
        for chunk in step.chunks:
            request = chunk.request
            self.scheduler.complete(chunk)
            if request.finish_reason is not None or not chunk.num_rows:
                continue
            if request.wants_rows:
                self._events.append(row_event(self._decoder, chunk, handle))
                if request.num_computed_tokens == request.num_prompt_tokens:
                    self._end(request, "stop", None)
                continue
            request.num_unknown_tokens -= 1
            try:
                self._append_token(request, token_ids[chunk.first_row], chunk.first_row, output)
            except Exception as error:  # the request's own fault, so it ends alone
                bug = None if isinstance(error, RocmForgeError) else error
                kind = type(error).__name__
                _logger.warning("request %d failed: %s", request.request_id, kind, exc_info=bug)
                self._end(request, "error", typed_error(error))

    def _append_token(self, request: Request, token_id: int, row: int, output: StepOutput) -> None:
        assert request.sampler is not None
        if not 0 <= token_id < self._decoder.vocab_size:
            msg = f"no token can be drawn at position {len(request.token_ids)}: bad logits"
            raise request.sampler.error or DeviceError(msg)
        request.sampler.append(token_id)
        logprobs = None
        if request.num_logprobs is not None:
            logprobs = logprobs_of(output, row, token_id, request.num_logprobs)
        request.token_ids.append(token_id)
        if request.first_token_at is None:
            request.first_token_at = self._clock()
        self._counters.num_output_tokens += 1
        self._events.append(TokenEvent(request.request_id, token_id, logprobs))
        if token_id in request.stop_token_ids or request.sampler.is_finished:
            self._end(request, "stop", None)
        elif len(request.token_ids) >= request.max_num_tokens:
            self._end(request, "length", None)

    def _end(self, request: Request, reason: FinishReason, error: Exception | None) -> None:
        self.inbox.ended(request)
        self.scheduler.finish(request, reason)
        self._counters.num_finished[reason] += 1
        self._events.append(finished_event(request, reason, error, self._clock()))

    def _drop_running(self, error: StepOutOfMemory) -> None:
        """Ends what was running; what waits may fit."""
        while self._in_flight:  # blocks of a step are free only after it
            handle, _ = self._in_flight.popleft()
            try:
                self._decoder.collect(handle)
            except Exception as worse:  # noqa: BLE001 - there is no worse
                self._fail(worse)
                return
        self.scheduler.forget_in_flight()
        typed = typed_error(error.__cause__)
        _logger.error("no memory for a step; its requests end", exc_info=typed)
        for request in list(self.scheduler.running):
            self._end(request, "error", typed)

    def _fail(self, error: Exception) -> None:
        """Ends everything, and the engine with it."""
        self._in_flight.clear()
        self.scheduler.forget_in_flight()
        typed = typed_error(error)
        _logger.error("a step failed, and the engine with it", exc_info=typed)
        self.stop(typed)
        for request in list(self.scheduler.running):
            self._end(request, "error", typed)
        self.end_all("error", UnavailableError(f"the engine has failed: {typed}"))

    def _flush(self) -> None:
        if self._events:
            events, self._events = self._events, []
            self._publish(events)
