"""Answers that end with their client: streams of server-sent events, and waiting for one result."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

from fastapi import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from rocmforge.errors import RocmForgeError
from rocmforge.server.errors import ClientLeftError, error_object

# A client that takes nothing for so long is given up. What is written but not taken is bounded
# by the transport's buffer (64 KiB), what is not yet written by the request's own max_tokens.
STALL_S: Final = 30.0
DONE: Final = "[DONE]"

_logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def event(data: Any) -> bytes:
    """A server-sent event of one line of JSON, or of a plain text."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


class EventStream(Response):
    """Sends what `events` yields; closes it at once when the client is gone or stalls.

    The response begins with the first event: an error before that is an answer with its own status.
    One on the way is the last event, and no [DONE] follows it. `close` is called in any case, which
    the end of a generator that was never begun is not.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], close: Callable[[], None]) -> None:
        self._events = events
        self._close = close
        self._has_begun = False
        self._sending_since: float | None = None
        self.status_code = 200
        self.background = None
        self.init_headers({"x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(scope, send))
        leaving = asyncio.ensure_future(client_left(receive))
        try:
            done: set[asyncio.Future[None]] = set()
            while not done and not self._is_stalled():
                done, _ = await asyncio.wait(
                    {sending, leaving},
                    timeout=STALL_S / 4,
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._events.aclose()
            self._close()
        if not self._has_begun and sending.done() and not sending.cancelled():
            sending.result()  # raises what it failed with

    async def _send(self, scope: Scope, send: Send) -> None:
        try:
            async for data in self._events:
                await self._send_body(send, data)
        except Exception as error:
            if not self._has_begun:
                raise
            # The status is sent; this is what is left.
            if not isinstance(error, RocmForgeError):
                extra = {"request_id": scope.get("request_id")}
                _logger.error("a bug in a stream", exc_info=error, extra=extra)
            await self._send_body(send, event(error_object(error)))
        await self._begin(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, send: Send) -> None:
        if not self._has_begun:
            self._has_begun = True
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)

    async def _send_body(self, send: Send, data: bytes) -> None:
        self._sending_since = time.monotonic()
        await self._begin(send)
        await send({"type": "http.response.body", "body": data, "more_body": True})
        self._sending_since = None

    def _is_stalled(self) -> bool:
        since = self._sending_since
        return since is not None and time.monotonic() - since > STALL_S


class Answer(Protocol):
    """What a request has started: told whole or in events; `close` ends what still runs."""

    async def whole(self, request: Request) -> dict[str, Any]: ...
    def stream(self, request: Request) -> AsyncGenerator[bytes, None]: ...
    def close(self) -> None: ...


async def respond(request: Request, starting: Awaitable[Answer], *, stream: bool) -> Response:
    """The response to a request whose body has been read; it ends when the client leaves."""
    answer = await while_connected(request, starting)
    if stream:
        return EventStream(answer.stream(request), answer.close)
    try:
        return JSONResponse(await while_connected(request, answer.whole(request)))
    finally:
        answer.close()


async def all_of(works: Iterable[Awaitable[Result]]) -> list[Result]:
    """The results, in order; one that fails ends the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def client_left(receive: Receive) -> None:
    """Returns once the client has closed the connection; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is cancelled, with ClientLeftError, when the client leaves."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(client_left(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            msg = "the client has closed the connection"
            raise ClientLeftError(msg)
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
