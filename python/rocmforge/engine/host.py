"""Runs an engine on a thread of this process and brings its events to those who asked."""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from typing import Protocol

from rocmforge.engine.admission import CompileGrammar
from rocmforge.engine.decoder import Decoder
from rocmforge.engine.engine import Engine
from rocmforge.engine.messages import Cancel, Event, Finished, Submit
from rocmforge.engine.request import RequestState
from rocmforge.engine.scheduler import SchedulerConfig
from rocmforge.engine.stats import EngineStats
from rocmforge.errors import UnavailableError
from rocmforge.model.own_process import OwnProcess

_logger = logging.getLogger(__name__)


class Channel(Protocol):
    """Takes the events of its requests, all those of a step at once, on the engine's thread.

    put() must neither block nor raise; queue.SimpleQueue is one.
    """

    def put(self, events: list[Event], /) -> None: ...


class _Router:
    """Which channel each live request's events go to. Single dict operations need no lock."""

    def __init__(self) -> None:
        self.channels: dict[int, Channel] = {}

    def deliver(self, events: list[Event]) -> None:
        by_channel: dict[int, tuple[Channel, list[Event]]] = {}
        for event in events:
            channel = self.channels[event.request_id]
            by_channel.setdefault(id(channel), (channel, []))[1].append(event)
            if isinstance(event, Finished):
                del self.channels[event.request_id]
        for channel, own in by_channel.values():
            channel.put(own)

    def fail_all(self, error: Exception) -> None:
        self.deliver([Finished(i, "error", error, 0, 0, 0) for i in list(self.channels)])


class EngineHost:
    """Thread-safe. The thread ends with close(), with the object or with the interpreter."""

    def __init__(
        self,
        decoder: Decoder,
        config: SchedulerConfig,
        compile_grammar: CompileGrammar | None = None,
    ) -> None:
        self._process = OwnProcess()
        self._ids = itertools.count(1)
        self._router = _Router()
        self._engine = Engine(
            decoder, config, self._router.deliver, compile_grammar=compile_grammar
        )
        # A daemon, because a thread that is not would keep the interpreter from ever getting to
        # the finalizer.
        thread = threading.Thread(
            target=_serve, args=(self._engine, self._router), name="rocmforge-engine", daemon=True
        )
        self._close = weakref.finalize(self, _stop, self._engine, thread, self._process)
        thread.start()

    def new_id(self) -> int:
        """An id that no request of this engine has had."""
        return next(self._ids)

    def submit(self, submit: Submit, channel: Channel) -> None:
        """Queues a request whose events are to go to `channel`; raises what the engine does."""
        self.check_process()
        channels = self._router.channels
        channels[submit.request_id] = channel  # before the first event can come
        try:
            self._engine.submit(submit)
        except BaseException:
            del channels[submit.request_id]
            raise

    def check_process(self) -> None:
        """Raises UnavailableError in a fork, to which no event will ever come."""
        self._process.check()

    def cancel(self, cancel: Cancel) -> None:
        if self._process.is_here:  # a fork may have been made while a lock was held
            self._engine.cancel(cancel)

    def state_of(self, request_id: int) -> RequestState | None:
        return self._engine.state_of(request_id)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    @property
    def progress(self) -> int:
        """A number that changes while a step gets on."""
        return self._engine.progress

    def close(self) -> None:
        """Ends all requests as cancelled and waits for the step that is running."""
        self._close()


def _serve(engine: Engine, router: _Router) -> None:
    try:
        while engine.error is None:
            if not engine.step():
                engine.inbox.wait()
        engine.end_all("cancelled")
    except BaseException as error:
        # A defect of the engine itself: nobody is to wait for it, and nothing of it is trusted.
        _logger.critical("the engine thread ended", exc_info=True)
        failure = UnavailableError(f"the engine thread ended with {type(error).__name__}: {error}")
        engine.stop(failure)
        router.fail_all(failure)


def _stop(engine: Engine, thread: threading.Thread, process: OwnProcess) -> None:
    if not process.is_here:
        return
    engine.stop(UnavailableError("it has been closed"))
    if thread is not threading.current_thread():
        thread.join()
