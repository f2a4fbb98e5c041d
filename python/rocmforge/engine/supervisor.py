"""Runs the engine in a process of its own and starts another when that one dies or hangs.

Everything here belongs to one asyncio event loop. A request is live from submit(), which awaits
nothing between registering and sending it, to its Finished event, which always comes: from the
engine, or from here when its process is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable
from typing import Final

from rocmforge.engine.child import EngineChild, spawn
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
from rocmforge.engine.remote_request import RemoteRequest
from rocmforge.engine.wire import encode
from rocmforge.errors import CapacityError, DeviceError, RocmForgeError, UnavailableError

_logger = logging.getLogger(__name__)

MIN_BACKOFF_S: Final = 0.5
_MAX_DOUBLINGS: Final = 6  # to half a minute
# A process that has lived this long has earned a quick restart.
STEADY_S: Final = 60.0
_TICK_S: Final = 0.25
_READ_BYTES: Final = 256 * 1024


class EngineSupervisor:
    """Requests for a model, whichever process runs it at the moment.

    `on_end` is called with every Finished event, from whatever side it came.
    """

    def __init__(
        self,
        model: str | None,
        config: EngineConfig,
        *,
        on_end: Callable[[Finished], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = Start(model, config)
        self._max_live = config.max_queue + config.max_num_seqs
        self._on_end = on_end
        self._clock = clock
        self._ids = itertools.count(1)
        self._live: dict[int, RemoteRequest] = {}
        self._child: EngineChild | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._num_quick_ends = 0
        self.model: Loaded | None = None
        self.num_restarts = 0
        self.num_heartbeats = 0

    # --- what is known

    @property
    def is_ready(self) -> bool:
        """Whether a request would be taken."""
        child = self._child
        return child is not None and child.loaded.done() and not self._is_closed

    @property
    def is_alive(self) -> bool:
        """Whether there is a process that is heard of; one that loads counts."""
        return self._child is not None

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.process.pid

    @property
    def heartbeat(self) -> Heartbeat | None:
        """The engine's latest account of itself."""
        return None if self._child is None else self._child.heartbeat

    @property
    def num_live(self) -> int:
        return len(self._live)

    # --- requests

    def new_id(self) -> int:
        return next(self._ids)

    async def submit(self, submit: Submit) -> RemoteRequest:
        """Waits until the engine has queued the request.

        Raises what the engine refuses it with, CapacityError if the queue is full and
        UnavailableError while there is no engine.
        """
        child = self.check_room()
        request = RemoteRequest(submit)
        frames = list(encode([submit]))
        self._live[submit.request_id] = request
        child.writer.writelines(frames)
        try:
            await request.accepted()
        except BaseException:
            self.cancel(Cancel(submit.request_id))
            raise
        return request

    def check_room(self, num_coming: int = 0) -> EngineChild:
        """The process that takes requests.

        Raises what submit() would at once, for those who have work to do before it, after the
        `num_coming` that have it too.
        """
        child = self._child
        if child is None or not child.loaded.done() or self._is_closed:
            msg = "the engine is not running; try again later"
            raise UnavailableError(msg)
        if len(self._live) + num_coming >= self._max_live:
            msg = f"{len(self._live) + num_coming} requests are waiting or running; try again later"
            raise CapacityError(msg)
        return child

    def cancel(self, cancel: Cancel) -> None:
        """Ends a request; one that has ended is left alone.

        One that is "cancelled" gives no more events; one that met a "stop" gives its Finished.
        """
        if cancel.request_id not in self._live:
            return
        if cancel.reason == "cancelled":
            del self._live[cancel.request_id]
            self._on_end(Finished(cancel.request_id, "cancelled", None, 0, 0, 0))
        if self._child is not None and not self._child.writer.is_closing():
            self._child.writer.writelines(encode([cancel]))

    # --- the process

    async def start(self) -> Loaded:
        """Loads the model; raises what loading it does. There is no restart before that."""
        child = await self._spawn()
        try:
            self.model = await asyncio.shield(child.loaded)
        except BaseException:
            await self.close()
            raise
        return self.model

    async def close(self) -> None:
        """Ends the process at once, and the requests with it."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._child is not None:
            self._reap(self._child, UnavailableError("the server is shutting down"))

    async def _spawn(self) -> EngineChild:
        child = await spawn(self._clock())
        self._child = child
        child.writer.writelines(encode([self._start]))
        self._task = asyncio.create_task(self._attend(child), name="rocmforge-engine")
        return child

    async def _attend(self, child: EngineChild) -> None:
        """Listens to a process to its end, then starts the next one."""
        watch = asyncio.create_task(self._watch(child))
        error = "it ended"
        try:
            while data := await child.reader.read(_READ_BYTES):
                child.heard_at = self._clock()
                for message in child.frames.feed(data):
                    self._take(child, message)
        except (OSError, DeviceError) as broken:
            error = str(broken)
        finally:
            watch.cancel()
        error = child.failure or error
        has_loaded = child.loaded.done() and child.loaded.exception() is None
        code = self._reap(child, UnavailableError(f"the engine was lost: {error}"))
        if has_loaded or self.model is not None:
            _logger.error("the engine process is lost: %s (exit code %s)", error, code)
            self._task = asyncio.create_task(self._restart(child), name="rocmforge-engine")

    async def _restart(self, child: EngineChild) -> None:
        if self._clock() - child.started_at >= STEADY_S:
            self._num_quick_ends = 0
        while True:
            backoff = MIN_BACKOFF_S * 2 ** min(self._num_quick_ends, _MAX_DOUBLINGS)
            self._num_quick_ends += 1
            await asyncio.sleep(backoff)
            try:
                await self._spawn()
            except OSError as error:  # no memory, no process ids: that may pass
                _logger.error("no engine process can be started: %s", error)
            else:
                self.num_restarts += 1
                return

    async def _watch(self, child: EngineChild) -> None:
        """Kills a process that is silent or gets on with nothing; reading then ends."""
        looked_at = self._clock()
        while True:
            await asyncio.sleep(_TICK_S)
            now = self._clock()
            if now - looked_at > 2 * _TICK_S:  # this loop was held up, and has heard nothing
                child.excuse(now - looked_at, now)
            looked_at = now
            child.failure = child.fault(now)
            if child.failure:
                child.process.kill()
                return

    def _take(self, child: EngineChild, message: Message) -> None:
        if isinstance(message, TokenEvent | RowsEvent | LogprobsEvent | Finished):
            request = self._live.get(message.request_id)
            if request is None:  # cancelled, its last events on their way
                return
            if isinstance(message, Finished):
                del self._live[message.request_id]
                self._on_end(message)
            request.put(message)
        elif isinstance(message, Accepted):
            if (request := self._live.get(message.request_id)) is not None:
                request.wake()
        elif isinstance(message, Heartbeat):
            self.num_heartbeats += 1
            child.note(message, self._clock())
        elif isinstance(message, Loaded):
            child.moved_at = self._clock()
            child.loaded.set_result(message)
        elif isinstance(message, LoadFailed):
            child.loaded.set_exception(message.error)
        else:
            msg = f"it sent a message of a kind that engines do not send: {type(message).__name__}"
            raise DeviceError(msg)

    def _reap(self, child: EngineChild, error: RocmForgeError) -> int:
        """Ends the process for certain, and its requests with `error`."""
        if self._child is child:
            self._child = None
        child.process.kill()
        code = child.process.wait()
        child.writer.close()
        if not child.loaded.done():
            child.loaded.set_exception(error)
        child.loaded.exception()  # whoever waits has it; nobody needs to
        live, self._live = self._live, {}
        for request_id, request in live.items():
            finished = Finished(request_id, "error", error, 0, 0, 0)
            self._on_end(finished)
            request.put(finished)
        return code
