"""A connection that is one too many, or has to get on with its requests."""

from __future__ import annotations

import asyncio
import ipaddress
from http import HTTPStatus
from typing import Any, ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from rocmforge.errors import UnavailableError
from rocmforge.server.errors import RequestError, error_response

HEADER_TIMEOUT_S: Final = 10.0
MAX_CONNECTIONS: Final = 1024


class BoundedConnection(H11Protocol):
    """uvicorn's, with bounds of our own.

    There are at most MAX_CONNECTIONS, and `max_per_address` from one other machine: more are
    answered with 503 at once. One is closed when a request's headers are not complete
    HEADER_TIMEOUT_S after its first byte, or after the connection was made. Between requests the
    keep-alive limit holds.
    """

    max_per_address: ClassVar[int] = MAX_CONNECTIONS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._is_one_too_many():
            self._refuse(UnavailableError("there are too many connections; try again later"))
        else:
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

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered with an error of the same form as others."""
        if self.cycle is not None and self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(RequestError(msg))

    def _is_one_too_many(self) -> bool:
        if len(self.connections) > MAX_CONNECTIONS:
            return True
        address = _address(self)
        if address is None or ipaddress.ip_address(address).is_loopback:
            return False  # a reverse proxy speaks for many
        return sum(_address(other) == address for other in self.connections) > self.max_per_address

    def _refuse(self, error: Exception) -> None:
        """Answers outside of any request, and closes."""
        response = error_response(error)
        headers = [*response.raw_headers, (b"connection", b"close")]
        status = response.status_code
        lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
        lines += [b"%s: %s" % header for header in headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self.transport.close()

    def _begin_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_TIMEOUT_S, self.transport.abort)

    def _end_headers(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _address(connection: Any) -> str | None:
    return connection.client[0] if connection.client else None
