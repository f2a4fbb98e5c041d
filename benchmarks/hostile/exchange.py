"""A hostile request, what may answer it, and how it is asked."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

REFUSED = frozenset({400})
ANY = frozenset({200, 400, 404, 405, 413, 414, 415, 421, 429, 431, 503})


@dataclass(frozen=True)
class Hostile:
    name: str
    data: bytes
    statuses: frozenset[int] = REFUSED
    may_be_closed: bool = False  # without an answer


@dataclass(frozen=True)
class Answer:
    """Status 0: the connection was closed without one."""

    status: int
    head: bytes
    body: bytes

    def fault(self, request: Hostile) -> str:
        """What is wrong with this answer; empty if nothing is."""
        if self.status == 0:
            return "" if request.may_be_closed else "no answer"
        is_put_off = self.status in (429, 503) and b"\r\nretry-after: " in self.head.lower()
        if self.status not in request.statuses and not is_put_off:
            return f"status {self.status}, not one of {sorted(request.statuses)}"
        for inside in (b"Traceback", b"/python/", b" object at 0x", b"site-packages"):
            if inside in self.body:
                return f"the answer tells of {inside.decode()}"
        if self.status >= 400 and not request.data.startswith(b"HEAD "):
            try:
                error = json.loads(self.body)["error"]
            except (ValueError, KeyError, TypeError):
                return f"no error object: {self.body[:80]!r}"
            if set(error) != {"message", "type", "param", "code"}:
                return f"an error object with {sorted(error)}"
        return ""


async def ask(host: str, port: int, data: bytes, limit_s: float = 20.0) -> Answer:
    """The answer to bytes; raises TimeoutError if none is complete within the limit."""
    reader, writer = await asyncio.open_connection(host, port)
    received = b""

    async def exchange() -> None:
        nonlocal received
        writer.write(data)
        while more := await reader.read(65536):
            received += more

    try:
        await asyncio.wait_for(exchange(), limit_s)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0
    return Answer(status, head + b"\r\n", body)


def post(path: str, body: Any, *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"Content-Length: {len(data)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + data


def raw(line: str, *headers: str, host: str = "localhost", rest: bytes = b"") -> bytes:
    lines = [line, *([f"Host: {host}"] if host else []), "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + rest
