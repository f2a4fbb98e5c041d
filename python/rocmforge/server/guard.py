"""What every request passes before any route sees it: bounds, Host, key, drain; and the log.

Decisions are made on the raw ASGI scope. Everything is closed but what OPEN_PATHS lists.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from rocmforge.errors import RocmForgeError, UnavailableError
from rocmforge.server.errors import RequestError, error_response
from rocmforge.server.state import Place, ServerState

Scope = MutableMapping[str, Any]
ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS: Final = frozenset({"/", "/health", "/ready"})
ENGINE_PATHS: Final = frozenset(
    {
        *("/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
        *("/v1/generate", "/v1/generate/stream"),
        *("/v1/context/add", "/v1/context/search"),
    }
)
# Served while draining: they tell that it does.
_DRAIN_PATHS: Final = frozenset({"/health", "/ready", "/metrics"})
MAX_TARGET_BYTES: Final = 8 * 1024
MAX_HEADERS: Final = 100
BODY_TIMEOUT_S: Final = 30.0
# What is still read, and for how long, of a body that was refused for its size.
DISCARD_FACTOR: Final = 4
DISCARD_S: Final = 5.0
# A body up to this size counts for nothing: all connections together have room for 64 MiB.
FREE_BODY_BYTES: Final = 64 * 1024

_logger = logging.getLogger(__name__)


class Guard:
    """ASGI middleware; the outermost."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self._app = app
        self._state = state
        settings = state.settings
        self._hosts = {"localhost", "127.0.0.1", "::1", settings.host, *settings.allowed_hosts}
        # A page that rebinds its name to this address sends that name, never an address.
        self._takes_addresses = settings.host in ("0.0.0.0", "::")  # noqa: S104

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = _Exchange(scope, receive, send, self._state)
        try:
            self._check(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the last place to answer
            await exchange.fail(error)
        finally:
            exchange.release()
            exchange.log()

    def _check(self, scope: Scope) -> None:
        """Raises RequestError for what no route is to see."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target > MAX_TARGET_BYTES:
            msg = f"the request target is over {MAX_TARGET_BYTES} bytes"
            raise RequestError(msg, status=414)
        if len(headers) > MAX_HEADERS:
            msg = f"there are over {MAX_HEADERS} headers"
            raise RequestError(msg, status=431)
        named = dict(headers)
        if not self._is_own_host(named.get(b"host", b"")):
            msg = "the Host header names another server; see --allowed-host"
            raise RequestError(msg, status=421)
        path = scope["path"]
        namespace = owner = ""
        if self._state.keys and path not in OPEN_PATHS:
            found = self._state.keys.identify(named.get(b"authorization"))
            if found is None:
                msg = "a valid API key is needed: Authorization: Bearer KEY"
                raise RequestError(msg, status=401, code="invalid_api_key")
            owner = found  # of documents, which are never shared
            namespace = "" if self._state.settings.share_prefix_cache else found
        scope["state"] = {**scope.get("state", {}), "namespace": namespace, "owner": owner}
        if named.get(b"content-encoding", b"identity").lower() != b"identity":
            msg = "bodies must not be compressed"
            raise RequestError(msg, status=415)
        length = named.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._state.settings.max_body_bytes:
            raise _too_large(self._state)
        if self._state.is_draining and path not in _DRAIN_PATHS:
            msg = "the server is shutting down"
            raise UnavailableError(msg)
        if path in ENGINE_PATHS:  # before work on a body that would be for nothing
            self._state.check_room()

    def _is_own_host(self, host: bytes) -> bool:
        name = host.decode("latin-1").lower()
        if name.startswith("["):
            name, closed, port = name[1:].partition("]")
            if not closed or (port and not port.startswith(":")):
                return False
            port = port[1:]
        else:
            name, _, port = name.partition(":")
        if port and not (port.isdigit() and port.isascii()):
            return False
        return name in self._hosts or (self._takes_addresses and _is_address(name))


class _Exchange:
    """One request and its answer, watched."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, state: ServerState) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._state = state
        self._started_at = time.monotonic()
        self._status = 0
        self._body_bytes = 0
        self._held_bytes = 0  # of those that count
        self._has_body = False
        self._is_cut = False  # the body was refused on its way
        self._place = Place.of_request(state)
        self.request_id = secrets.token_hex(8)
        scope["request_id"] = self.request_id

    async def receive(self) -> ASGIMessage:
        if self._has_body:
            return await self._receive()
        message = await self._receive_in_time()
        self._body_bytes += len(message.get("body", b""))
        if self._body_bytes > self._state.settings.max_body_bytes:
            self._is_cut = True
            raise _too_large(self._state)
        self._hold()
        self._has_body = not message.get("more_body", False)
        if self._has_body and self._scope["path"] in ENGINE_PATHS:
            self._place.take()  # before the body is parsed
        return message

    async def _receive_in_time(self) -> ASGIMessage:
        """Without waiting where a part has arrived, which asyncio.wait_for() always does.

        A client that comes after one whose body is complete then finds its place taken.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        is_late = False

        def expire() -> None:
            nonlocal is_late
            is_late = True
            if task is not None:
                task.cancel()

        left = self._started_at + BODY_TIMEOUT_S - time.monotonic()
        timer = loop.call_later(left, expire)
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if not is_late:
                raise
            if task is not None and sys.version_info >= (3, 11):
                task.uncancel()
            msg = f"the body did not arrive within {BODY_TIMEOUT_S:g} s"
            raise RequestError(msg, status=408) from None
        finally:
            timer.cancel()

    def _hold(self) -> None:
        """Counts the body among those that are held; raises UnavailableError if they are too many."""
        held = max(0, self._body_bytes - FREE_BODY_BYTES)
        self._state.held_bytes += held - self._held_bytes
        self._held_bytes = held
        if held and self._state.held_bytes > self._state.settings.max_held_bytes:
            self.release()
            self._is_cut = True
            msg = "the bodies of other requests take all the memory there is for them; try later"
            raise UnavailableError(msg)

    def release(self) -> None:
        """Nothing of the body is needed any more, nor a place that it had."""
        self._place.release()
        self._state.held_bytes -= self._held_bytes
        self._held_bytes = 0

    async def send(self, message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", []))
            headers += [
                (b"x-request-id", self.request_id.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
            ]
            # What is left of a body that was not read would be taken for the next request.
            if self._is_cut or self._state.is_draining or self._status in (408, 413, 414, 431):
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif (self._is_cut or self._status == 413) and not message.get("more_body", False):
            # A connection closed on a client that still sends takes the answer back.
            await self._send({**message, "more_body": True})
            await self._discard_body()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _discard_body(self) -> None:
        """Lets a client finish what it sends, within bounds."""
        num_left = DISCARD_FACTOR * self._state.settings.max_body_bytes
        deadline = time.monotonic() + DISCARD_S
        with contextlib.suppress(asyncio.TimeoutError):
            while num_left > 0:
                left = deadline - time.monotonic()
                message = await asyncio.wait_for(self._receive(), left)
                num_left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return

    async def fail(self, error: Exception) -> None:
        if not isinstance(error, RocmForgeError):
            _logger.error("a bug", exc_info=error, extra={"request_id": self.request_id})
        if not self._status:
            await error_response(error)(self._scope, self._receive, self.send)

    def log(self) -> None:
        scope = self._scope
        route = getattr(scope.get("route"), "path", "other")
        status = self._status or 499  # gone before there was an answer
        self._state.metrics.requests.labels(route, status).inc()
        duration_s = time.monotonic() - self._started_at
        fields = {
            "request_id": self.request_id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "duration_s": round(duration_s, 6),
            **scope.get("usage", {}),
        }
        named = dict(scope["headers"])
        if b"x-request-id" in named:
            label = named[b"x-request-id"][:64].decode("ascii", "replace")
            fields["client_request_id"] = label
        _logger.info("request", extra=fields)
        if self._state.tracing is not None:
            self._state.tracing.record(scope["headers"], fields, duration_s)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _too_large(state: ServerState) -> RequestError:
    msg = f"the body is over {state.settings.max_body_bytes} bytes"
    return RequestError(msg, status=413)
