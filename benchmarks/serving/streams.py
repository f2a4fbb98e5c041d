"""One streamed completion, by plain HTTP.

The client shares the machine with the server it measures, so it only takes notes while a stream
lasts; events are read from them when nothing is timed any more.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any

Address = tuple[str, int]
LIMIT_S = 300.0


class StreamError(Exception):
    """Something other than a stream that ends well."""


@dataclass
class Stream:
    """When events with choices came, in seconds since the request was sent, and what they said."""

    events_at: list[float] = field(default_factory=list)
    num_tokens: int = 0
    text: str = ""

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in itertools.pairwise(self.events_at)]


class Notes(asyncio.Protocol):
    """What comes in, and when, until the other side closes."""

    def __init__(self) -> None:
        self.started_at = time.perf_counter()
        self.pieces: list[tuple[float, bytes]] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.perf_counter() - self.started_at, data))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.ended.done():
            self.ended.set_result(None)


async def note_completion(address: Address, body: dict[str, Any], key: str = "") -> Notes:
    """Raises StreamError if the stream does not end in time."""
    data = json.dumps(body).encode()
    head = [
        "POST /v1/completions HTTP/1.1",
        f"Host: {address[0]}:{address[1]}",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        "Connection: close",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    request = "\r\n".join([*head, "", ""]).encode() + data
    loop = asyncio.get_running_loop()
    transport, notes = await loop.create_connection(Notes, *address)
    try:
        notes.started_at = time.perf_counter()
        transport.write(request)
        await asyncio.wait_for(notes.ended, LIMIT_S)
    except asyncio.TimeoutError:
        message = f"a stream that lasts longer than {LIMIT_S:g} s"
        raise StreamError(message) from None
    finally:
        transport.close()
    return notes


def stream_of(notes: Notes) -> Stream:
    """Raises StreamError for an answer that is no stream with its usage at the end."""
    whole = b"".join(data for _, data in notes.pieces)
    if not whole.startswith(b"HTTP/1.1 200"):
        message = f"not a stream: {whole[:1000].decode(errors='replace')}"
        raise StreamError(message)
    stream, rest = Stream(), b""
    for at_s, data in notes.pieces:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                _read(stream, at_s, json.loads(line[6:]))
    if not stream.num_tokens:
        message = f"a stream without its usage: {whole[-1000:].decode(errors='replace')}"
        raise StreamError(message)
    return stream


def _read(stream: Stream, at_s: float, event: dict[str, Any]) -> None:
    if "error" in event:
        raise StreamError(str(event["error"]))
    if event.get("usage"):
        stream.num_tokens = event["usage"]["completion_tokens"]
    for choice in event.get("choices", []):
        stream.text += choice["text"]
        # One that only tells of the end brings no token.
        if choice["text"] or not choice.get("finish_reason"):
            stream.events_at.append(at_s)
