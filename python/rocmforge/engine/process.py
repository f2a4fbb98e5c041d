"""The engine in a process of its own: `python -m rocmforge.engine.process FD`.

FD is one end of a socket pair; the frames of wire.py pass over it and nothing else does. The
process lives as long as the other end: when that is closed, or its process gone, it exits.

Three threads: this module's reads frames, the engine's steps, and one writes what a step has to
say, which overlaps with the next step since the decoder runs without the GIL. Two more wait: for
the engine to fail, and for the other end to close.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Final

from rocmforge.engine.logs import configure_logging
from rocmforge.engine.messages import (
    Accepted,
    Cancel,
    Finished,
    Heartbeat,
    Loaded,
    LoadFailed,
    Message,
    Start,
    Submit,
)
from rocmforge.engine.rights import give_up_rights
from rocmforge.engine.session import Session
from rocmforge.engine.wire import FrameReader, encode
from rocmforge.errors import RocmForgeError
from rocmforge.model.host import resident_bytes

HEARTBEAT_S: Final = 0.5
EXIT_ENGINE_FAILED: Final = 86
_READ_BYTES: Final = 256 * 1024


class Outbox:
    """Messages on their way out, with a heartbeat among them; a channel for the engine."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._queue: SimpleQueue[Sequence[Message]] = SimpleQueue()
        self.heartbeat: Callable[[], Heartbeat] | None = None
        self._thread = threading.Thread(target=self._run, name="rocmforge-outbox", daemon=True)
        self._thread.start()

    def put(self, messages: Sequence[Message]) -> None:
        self._queue.put(messages)

    def flush(self) -> None:
        """Ends the outbox once everything is written."""
        self._queue.put([])
        self._thread.join()

    def _run(self) -> None:
        next_beat = time.monotonic()
        is_open = True
        while is_open:
            messages: list[Message] = []
            try:
                batch = self._queue.get(timeout=max(0.0, next_beat - time.monotonic()))
                while True:
                    is_open = is_open and bool(batch)
                    messages += batch
                    batch = self._queue.get_nowait()
            except Empty:
                pass
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + HEARTBEAT_S
                if self.heartbeat is not None:
                    messages.append(self.heartbeat())
            try:
                for frame in encode(messages):
                    self._connection.sendall(frame)
            except OSError:  # nobody listens: serve() finds the connection closed as well
                return


class EngineServer:
    """Takes the messages of the other side to the engine."""

    def __init__(self, session: Session, outbox: Outbox) -> None:
        self._host = session.host
        self._outbox = outbox
        # Compiling a grammar takes up to a second, in which others are to be let in.
        self._compilers = ThreadPoolExecutor(2, thread_name_prefix="rocmforge-admission")
        self._lock = threading.Lock()
        self._compiling: dict[int, Cancel | None] = {}  # and how it was cancelled meanwhile

    @property
    def is_healthy(self) -> bool:
        return self._host.stats().healthy

    def handle(self, message: Message) -> None:
        if isinstance(message, Submit):
            if message.params is not None and message.params.is_structured:
                with self._lock:
                    self._compiling[message.request_id] = None
                self._compilers.submit(self._admit_structured, message)
            else:
                self._admit(message)
        elif isinstance(message, Cancel):
            with self._lock:
                if message.request_id in self._compiling:
                    self._compiling[message.request_id] = message
            self._host.cancel(message)

    def _admit_structured(self, submit: Submit) -> None:
        self._admit(submit)
        with self._lock:
            cancel = self._compiling.pop(submit.request_id)
        if cancel is not None:
            self._host.cancel(cancel)

    def _admit(self, submit: Submit) -> None:
        request_id = submit.request_id
        answer: Message = Accepted(request_id)
        try:
            self._host.submit(submit, self._outbox)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's alone
            typed = error
            if not isinstance(error, RocmForgeError):
                typed = RocmForgeError(f"admission failed with {type(error).__name__}: {error}")
            answer = Finished(request_id, "error", typed, 0, 0, 0)
        self._outbox.put([answer])

    def heartbeat(self) -> Heartbeat:
        return Heartbeat(self._host.stats(), resident_bytes(), self._host.progress)


def serve(connection: socket.socket) -> int:
    """Runs an engine for the other end of `connection`; returns the exit code of the process."""
    reader = FrameReader()
    outbox = Outbox(connection)
    server: EngineServer | None = None
    while data := connection.recv(_READ_BYTES):
        for message in reader.feed(data):
            if isinstance(message, Start):
                try:
                    session = Session.load(message.model, message.config)
                except (RocmForgeError, OSError) as error:
                    outbox.put([LoadFailed(error)])
                    outbox.flush()
                    return 1
                server = EngineServer(session, outbox)
                outbox.put([_loaded(session), server.heartbeat()])
                outbox.heartbeat = server.heartbeat
                _end_with_engine(server, outbox)
            elif server is not None:
                server.handle(message)
    return 0


def _end_with_engine(server: EngineServer, outbox: Outbox) -> None:
    """Ends the process when the engine fails: its device, or its own state, is not to be trusted."""

    def watch() -> None:
        while server.is_healthy:
            time.sleep(HEARTBEAT_S / 2)
        outbox.flush()
        os._exit(EXIT_ENGINE_FAILED)

    threading.Thread(target=watch, name="rocmforge-watch", daemon=True).start()


def _end_with_parent(connection: socket.socket) -> None:
    """Ends the process when the other end is closed, even while a model loads and nobody reads."""

    def watch() -> None:
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP)
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, name="rocmforge-parent", daemon=True).start()


def _loaded(session: Session) -> Loaded:
    return Loaded(
        session.name,
        session.placement,
        session.num_fallbacks,
        session.load_s,
        session.max_model_len,
        session.vocab_size,
        session.hidden_size,
        session.pooling,
        session.is_causal,
    )


def main() -> None:
    # Whoever started this process decides when it ends, by closing the connection; a terminal or
    # a service manager signals both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging("info")  # to stderr, which is the other process's as well
    give_up_rights()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        _end_with_parent(connection)
        try:
            code = serve(connection)
        except ConnectionError:
            code = 0
    os._exit(code)  # a step that still runs is for nobody


if __name__ == "__main__":
    main()
