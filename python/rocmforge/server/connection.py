"""A connection that has to get on with its requests."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT_S: Final = 10.0


class BoundedConnection(H11Protocol):
    """uvicorn's, closed when a request's headers are not complete HEADER_TIMEOUT_S after its first
    byte, or after the connection was made. Between requests the keep-alive limit holds."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_headers()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and self.conn.their_state is h11.IDLE:
            self._begin_headers()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_headers()
        super().connection_lost(exc)

    def _begin_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_TIMEOUT_S, self.transport.abort)

    def _end_headers(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
