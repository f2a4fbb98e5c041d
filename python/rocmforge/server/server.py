"""InferenceServer: a socket, an HTTP server on it, an engine behind it; and how these end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import uvicorn

from rocmforge.engine.logs import configure_logging
from rocmforge.engine.supervisor import EngineSupervisor
from rocmforge.errors import InvalidArgumentError, UnavailableError
from rocmforge.model.loader import embedded_model
from rocmforge.server.app import create_app
from rocmforge.server.connection import MAX_CONNECTIONS, BoundedConnection
from rocmforge.server.keys import ApiKeys
from rocmforge.server.metrics import Metrics
from rocmforge.server.settings import ServerSettings
from rocmforge.server.state import ServerState
from rocmforge.server.tls import reload_certificate, tls_context
from rocmforge.server.tracing import Tracing
from rocmforge.tokenizer import Tokenizer

_logger = logging.getLogger(__name__)

MAX_HEADER_BYTES: Final = 16 * 1024
KEEP_ALIVE_S: Final = 5
HANDSHAKE_S: Final = 10.0  # as headers; no request has begun before it has ended
# For clients to take what was sent to them, once nothing runs any more.
CLOSE_S: Final = 2
# After draining: what closing sockets and the engine may take before the process is ended.
EXIT_MARGIN_S: Final = 4.0
EXIT_FORCED: Final = 1
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


class InferenceServer:
    """Serves one model until it is told to stop.

    SIGTERM and SIGINT refuse new requests and let the running ones go on for up to `drain_s`; while
    the model loads they end that. A second signal ends the process at once, with EXIT_FORCED.
    SIGHUP reads keys and certificate again.
    """

    def __init__(self, settings: ServerSettings) -> None:
        """Raises InvalidArgumentError for settings that do not go together."""
        self.settings = settings
        self._keys = ApiKeys.of(settings)
        self._tls = tls_context(settings)
        self._is_leaving = False  # told to while the model was loading

    def run(self, on_ready: Callable[[str], None] = lambda _: None) -> None:
        """Returns when the server has stopped; `on_ready` gets the URL once requests are taken.

        The logs of the process go to stderr as JSON, and SIGTERM and SIGINT to the server.

        Raises what loading the model does, and InvalidArgumentError for an address that is taken.
        """
        configure_logging(self.settings.log_level)
        handlers = [(sig, signal.getsignal(sig)) for sig in _ENDING]
        with _bound(self.settings) as listener:
            try:
                asyncio.run(self._serve(listener, on_ready))
            except (asyncio.CancelledError, UnavailableError):
                # A signal to the whole group may end the engine before this process hears of its own.
                if not self._is_leaving:
                    raise
            finally:
                for sig, handler in handlers:
                    signal.signal(sig, handler)

    async def _serve(self, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
        metrics = Metrics()
        settings, tracing = self.settings, Tracing.from_environment()
        engine = EngineSupervisor(settings.model, settings.engine_config(), on_end=metrics.note_end)
        self._end_loading_by_signals()
        try:
            await engine.start()
            metrics.watch(engine)
            path = settings.model or embedded_model()
            tokenizer = await asyncio.to_thread(Tokenizer.from_gguf, path)
            state = ServerState(settings, self._keys, metrics, engine, tokenizer, tracing)
            _check_memory(state)
            host, port = listener.getsockname()[:2]
            scheme = "http" if self._tls is None else "https"
            url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
            await _HTTPServer(state, self._tls).serve_until_drained(listener, lambda: on_ready(url))
        finally:
            await engine.close()
            if tracing is not None:
                tracing.close()

    def _end_loading_by_signals(self) -> None:
        """Until the HTTP server has handlers of its own.

        The first process of a container, which a signal without a handler does not end, needs them
        from the start.
        """
        loop, serving = asyncio.get_running_loop(), asyncio.current_task()

        def leave(sig: int, frame: FrameType | None) -> None:  # noqa: ARG001
            if self._is_leaving or serving is None:
                os._exit(EXIT_FORCED)
            self._is_leaving = True
            _force_exit_after(EXIT_MARGIN_S)
            loop.call_soon_threadsafe(serving.cancel)

        for sig in _ENDING:
            signal.signal(sig, leave)


class _HTTPServer(uvicorn.Server):
    """uvicorn's, with another idea of how to end."""

    def __init__(self, state: ServerState, tls: ssl.SSLContext | None) -> None:
        class Connection(BoundedConnection):
            max_per_address = state.settings.max_connections_per_address

        config = uvicorn.Config(
            create_app(state),
            http=Connection,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=CLOSE_S,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        super().__init__(config)
        self._state = state
        self._tls = tls
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens; by uvicorn's own a handshake could take a minute."""
        make: Any = self.config.http_protocol_class

        def connection() -> asyncio.Protocol:
            protocol: asyncio.Protocol = make(
                config=self.config, server_state=self.server_state, app_state={}
            )
            return protocol

        self.servers = [
            await self._loop.create_server(
                connection,
                sock=listener,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_S,
                backlog=MAX_CONNECTIONS,
            )
            for listener in sockets or []
        ]
        self.started = True

    async def serve_until_drained(
        self, listener: socket.socket, on_ready: Callable[[], None]
    ) -> None:
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._loop.call_soon(on_ready)  # the listener queues connections already
        await self.serve(sockets=[listener])

    def _reload(self) -> None:
        """Takes keys and certificate from their files; the old ones stay if these cannot be used."""
        settings = self._state.settings
        try:
            keys = ApiKeys.of(settings)
            if self._tls is not None:
                reload_certificate(self._tls, settings)
        except InvalidArgumentError as error:
            _logger.error("keys and certificate stay as they are: %s", error)
        else:
            self._state.keys = keys
            _logger.info("keys and certificate read again")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A signal has come."""
        if self._state.is_draining:
            os._exit(EXIT_FORCED)
        self._state.is_draining = True
        _force_exit_after(self._state.settings.drain_s + EXIT_MARGIN_S)
        self._loop.call_soon_threadsafe(self._start_draining, signal.Signals(sig).name)

    def _start_draining(self, reason: str) -> None:
        _logger.info("draining after %s", reason)
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        engine = self._state.engine
        deadline = self._loop.time() + self._state.settings.drain_s
        while engine.num_live and self._loop.time() < deadline:
            await asyncio.sleep(0.05)
        await engine.close()  # the requests that are left end with an error
        self.should_exit = True


def _force_exit_after(limit_s: float) -> None:
    """Whatever hangs, even the event loop, the process ends."""
    timer = threading.Timer(limit_s, os._exit, args=(EXIT_FORCED,))
    timer.daemon = True
    timer.start()


def _check_memory(state: ServerState) -> None:
    limit, used = state.settings.max_rss_bytes, state.resident_bytes
    if limit is not None and used > limit:
        msg = (
            f"max_rss_bytes is {limit}, but the model is loaded and {used} bytes are in use; raise "
            "the limit or serve a smaller model"
        )
        raise InvalidArgumentError(msg)


def _bound(settings: ServerSettings) -> socket.socket:
    try:
        return socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
            backlog=MAX_CONNECTIONS,
        )
    except OSError as error:
        reason = str(error.strerror)
        if error.errno is not None and error.errno > 0:  # those of getaddrinfo() are below
            reason = os.strerror(error.errno)
        if error.errno == errno.EADDRINUSE:
            reason += "; choose another with --port, or 0 for any that is free"
        msg = f"cannot listen at {settings.host} port {settings.port}: {reason}"
        raise InvalidArgumentError(msg) from None
