"""The step loop: inbox, schedule, batch, decoder, update, outbox.

`Engine` belongs to the one thread that calls step(); submit(), cancel() and stats() may be called
from any. Nothing here waits except wait_for_work(), so a test or a simulator can drive it step
by step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from rocmforge.engine.admission import make_request
from rocmforge.engine.batch import BatchBuilder
from rocmforge.engine.block_manager import BlockManager, CacheConfig
from rocmforge.engine.decoder import Decoder, StepOutput
from rocmforge.engine.messages import Cancel, Event, Finished, RowsEvent, Submit, TokenEvent
from rocmforge.engine.request import FinishReason, Request, RequestState
from rocmforge.engine.sampling import SamplerState, SamplingBatch, SamplingBatchBuilder
from rocmforge.engine.scheduler import Schedule, ScheduledChunk, Scheduler, SchedulerConfig
from rocmforge.engine.stats import CacheStats, Counters, EngineStats
from rocmforge.errors import (
    CapacityError,
    DeviceError,
    InvalidArgumentError,
    OutOfMemoryError,
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if (
            config.max_num_batched_tokens > decoder.max_num_tokens
            or config.max_num_seqs > decoder.max_num_seqs
        ):
            msg = (
                f"the decoder was built for steps of {decoder.max_num_tokens} tokens of "
                f"{decoder.max_num_seqs} sequences, not {config.max_num_batched_tokens} of "
                f"{config.max_num_seqs}"
            )
            raise InvalidArgumentError(msg)
        self.config = config
        cache = CacheConfig(decoder.num_blocks, decoder.block_size)
        self.scheduler = Scheduler(config, BlockManager(cache))
        self._decoder = decoder
        self._publish = publish
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
        # Guards what submitters share with the loop: the four below.
        self._changed = threading.Condition()
        self._inbox: list[Request | Cancel] = []
        self._live: dict[int, Request] = {}
        self._num_queued = 0  # submitted, not yet admitted for the first time
        self._error: Exception | None = None  # why nothing is accepted any more

    # --- any thread

    def submit(self, submit: Submit) -> None:
        """Queues a request.

        Raises InvalidArgumentError for one that can never run, CapacityError if the queue is full
        and UnavailableError if the engine has failed or is closed.
        """
        decoder = self._decoder
        request = make_request(
            submit, vocab_size=decoder.vocab_size, max_model_len=decoder.max_model_len
        )
        self.scheduler.check_fits(request.max_num_tokens, draws_tokens=not request.wants_rows)
        with self._changed:
            if self._error is not None:
                msg = f"the engine takes no requests: {self._error}"
                raise UnavailableError(msg)
            if request.request_id in self._live:
                msg = f"request id {request.request_id} is in use"
                raise InvalidArgumentError(msg)
            if self._num_queued >= self.config.max_queue:
                msg = f"all {self.config.max_queue} places in the queue are taken; try again later"
                raise CapacityError(msg)
            self._num_queued += 1
            self._live[request.request_id] = request
            self._inbox.append(request)
            self._changed.notify()

    def cancel(self, cancel: Cancel) -> None:
        with self._changed:
            if cancel.request_id in self._live:
                self._inbox.append(cancel)
                self._changed.notify()

    def stop(self, error: Exception) -> None:
        """Refuses new requests with `error`; the loop's thread then ends the others."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify()

    def state_of(self, request_id: int) -> RequestState | None:
        """None for a request that is unknown or has ended."""
        request = self._live.get(request_id)
        return None if request is None else request.state

    @property
    def error(self) -> Exception | None:
        """Why the engine accepts nothing any more; None while it is healthy."""
        return self._error

    def stats(self) -> EngineStats:
        counters, blocks = self._counters, self.scheduler.blocks
        num_running = len(self.scheduler.running)
        return EngineStats(
            healthy=self._error is None,
            num_waiting=max(0, len(self._live) - num_running),
            num_running=num_running,
            cache=CacheStats(
                num_blocks=blocks.num_blocks,
                block_size=blocks.block_size,
                num_free=blocks.num_free,
                num_cached=blocks.num_cached,
                num_hit_tokens=counters.num_hit_tokens,
            ),
            num_steps=counters.num_steps,
            busy_s=counters.busy_s,
            num_prompt_tokens=counters.num_prompt_tokens,
            num_output_tokens=counters.num_output_tokens,
            num_preemptions=self.scheduler.num_preemptions,
            num_finished=dict(counters.num_finished),
        )

    # --- the loop's thread

    def wait_for_work(self) -> None:
        """Sleeps until there is something to do or the engine is stopped."""
        with self._changed:
            while self._error is None and not self._inbox and not self.has_work:
                self._changed.wait()

    @property
    def has_work(self) -> bool:
        return bool(self._in_flight or self.scheduler.running or self.scheduler.waiting)

    def step(self) -> bool:
        """One turn of the loop. Returns whether there is more to do without new messages."""
        started_at = self._clock()
        try:
            self._drain_inbox()
            if self.has_work:
                self._turn()
                self._counters.num_steps += 1
                self._counters.busy_s += self._clock() - started_at
        except Exception as error:  # noqa: BLE001 - every caller must hear of it
            self._abandon(error)
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
        if not self._inbox:
            return
        with self._changed:
            messages, self._inbox = self._inbox, []
        for message in messages:
            if isinstance(message, Request):
                self.scheduler.add(message)
            else:
                request = self._live.get(message.request_id)
                if request is not None:
                    self._end(request, message.reason, None)

    def _turn(self) -> None:
        step = self.scheduler.schedule(may_preempt=not self._in_flight)
        if step.started:
            self._count_started(step.started)
        if step.chunks:
            batch = self._batches.build(step)
            handle = self._decoder.enqueue(batch, self._sampling_of(step))
            self._in_flight.append((handle, step))
        assert self._in_flight, "requests are waiting, yet nothing runs and nothing can start"
        keep = 0 if step.needs_host or not step.chunks else self._decoder.lookahead
        while len(self._in_flight) > keep:
            handle, done = self._in_flight.popleft()
            self._update(done, handle, self._decoder.collect(handle))

    def _count_started(self, requests: list[Request]) -> None:
        with self._changed:
            self._num_queued -= len(requests)
        for request in requests:
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
                self._emit_rows(chunk, handle)
                if request.num_computed_tokens == request.num_prompt_tokens:
                    self._end(request, "stop", None)
                continue
            request.num_unknown_tokens -= 1
            try:
                self._append_token(request, token_ids[chunk.first_row], chunk.first_row, output)
            except Exception as error:  # the request's own fault, so it ends alone
                _logger.warning("request %d failed", request.request_id, exc_info=error)
                self._end(request, "error", _typed(error))

    def _append_token(self, request: Request, token_id: int, row: int, output: StepOutput) -> None:
        if not 0 <= token_id < self._decoder.vocab_size:
            msg = f"no token can be drawn at position {len(request.token_ids)}: bad logits"
            raise DeviceError(msg)
        assert request.sampler is not None
        request.sampler.append(token_id)
        logprobs = None
        if request.num_logprobs is not None:
            logprobs = _logprobs(output, row, token_id, request.num_logprobs)
        request.token_ids.append(token_id)
        self._counters.num_output_tokens += 1
        self._events.append(TokenEvent(request.request_id, token_id, logprobs))
        if token_id in request.stop_token_ids:
            self._end(request, "stop", None)
        elif len(request.token_ids) >= request.max_num_tokens:
            self._end(request, "length", None)

    def _emit_rows(self, chunk: ScheduledChunk, handle: int) -> None:
        wants_logits = chunk.request.output == "logits"
        rows = self._decoder.logits(handle) if wants_logits else self._decoder.hidden(handle)
        rows = rows[chunk.first_row : chunk.first_row + chunk.num_rows].copy()
        self._events.append(RowsEvent(chunk.request.request_id, chunk.start, rows))

    def _end(self, request: Request, reason: FinishReason, error: Exception | None) -> None:
        with self._changed:
            del self._live[request.request_id]
            if not request.was_admitted:
                self._num_queued -= 1
        self.scheduler.finish(request, reason)
        self._counters.num_finished[reason] += 1
        self._events.append(
            Finished(
                request.request_id,
                reason,
                error,
                num_prompt_tokens=request.num_prompt_tokens,
                num_cached_tokens=request.num_cached_tokens,
                num_output_tokens=request.num_output_tokens,
            )
        )

    def _abandon(self, error: Exception) -> None:
        """Ends what was running, and unless memory was all that lacked, the engine."""
        survivable = isinstance(error, MemoryError)
        while survivable and self._in_flight:
            handle, _ = self._in_flight.popleft()
            try:
                self._decoder.collect(handle)  # its blocks are free only after this
            except Exception as worse:  # noqa: BLE001
                error, survivable = worse, False
        self._in_flight.clear()
        self.scheduler.forget_in_flight()
        error = _typed(error)
        _logger.error("a step failed; its requests end with it", exc_info=error)
        for request in list(self.scheduler.running):
            self._end(request, "error", error)
        if not survivable:
            self.stop(error)
            self.end_all("error", UnavailableError(f"the engine has failed: {error}"))

    def _flush(self) -> None:
        if self._events:
            events, self._events = self._events, []
            self._publish(events)


def _typed(error: Exception) -> RocmForgeError:
    if isinstance(error, RocmForgeError):
        return error
    kind = OutOfMemoryError if isinstance(error, MemoryError) else DeviceError
    typed = kind(f"a step failed with {type(error).__name__}: {error}")
    typed.__cause__ = error
    return typed


def _logprobs(output: StepOutput, row: int, token_id: int, num_top: int) -> dict[int, float]:
    """Of the token drawn and the `num_top` likeliest."""
    logprobs = {token_id: float(output.logprobs[row])}
    if num_top and output.top_ids is not None and output.top_logprobs is not None:
        top = zip(output.top_ids[row, :num_top], output.top_logprobs[row, :num_top], strict=True)
        logprobs.update((int(i), float(p)) for i, p in top if i >= 0)
    return logprobs
