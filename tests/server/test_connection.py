"""Connections that do not get on."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http import h11_impl
from uvicorn.server import ServerState

from rocmforge.server import connection
from rocmforge.server.connection import BoundedConnection

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def answer(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
    if scope["path"] == "/slow":
        await asyncio.sleep(0.7)  # longer than headers may take
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Address = tuple[str, int]


@asynccontextmanager
async def listening(max_per_address: int = 1024) -> AsyncIterator[Address]:
    class Connection(BoundedConnection):
        pass

    Connection.max_per_address = max_per_address
    config = uvicorn.Config(answer, log_config=None, ws="none", lifespan="off")
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(config=config, server_state=state, app_state={}), "127.0.0.1"
    )
    async with server:
        yield server.sockets[0].getsockname()


def run(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_TIMEOUT_S", 0.6)

    async def test() -> None:
        async with listening() as address:
            reader, writer = await asyncio.open_connection(*address)
            await asyncio.wait_for(client(reader, writer), 20)
            writer.close()

    asyncio.run(test())


@pytest.mark.parametrize("start", [b"", b"G", REQUEST])
def test_a_request_that_does_not_get_complete_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        assert await reader.read() == b""

    run(client, monkeypatch)


def test_requests_that_take_long_to_answer_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(REQUEST.replace(b"/", b"/slow", 1) + b"\r\n")
            assert b"204" in await reader.readuntil(b"\r\n\r\n")

    run(client, monkeypatch)


def test_the_second_request_of_a_connection_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REQUEST + b"\r\n")
        assert b"204" in await reader.readuntil(b"\r\n\r\n")
        writer.write(REQUEST)
        assert await reader.read() == b""

    run(client, monkeypatch)


def refusal(data: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and error of an answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert int(headers["content-length"]) == len(body)
    return int(lines[0].split()[1]), headers, json.loads(body)["error"]


async def connections_refused(address: Address, count: int) -> list[bool]:
    """Opens so many, one after another, and tells of each whether it is one too many."""
    found, writers = [], []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(*address)
        writers.append(writer)
        try:
            data = await asyncio.wait_for(reader.read(), 0.1)
        except asyncio.TimeoutError:
            found.append(False)
            continue
        status, headers, error = refusal(data)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert error["type"] == "service_unavailable_error"
        found.append(True)
    for writer in writers:
        writer.close()
    return found


def test_one_other_machine_has_so_many_connections_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = itertools.cycle([("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.2", 1), None])
    monkeypatch.setattr(h11_impl, "get_remote_addr", lambda _: next(others))

    async def test() -> None:
        async with listening(max_per_address=2) as address:
            # The first machine comes twice as often as the second; the third has no address.
            refused = await connections_refused(address, 12)
            assert refused == [False] * 4 + [True, True] + [False] * 2 + [True, True, True, False]
            await asyncio.sleep(0.05)  # all of them are closed
            assert await connections_refused(address, 3) == [False] * 3

    asyncio.run(test())


def test_this_machine_has_all_connections_there_are_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 4)

    async def test() -> None:
        async with listening(max_per_address=2) as address:
            assert await connections_refused(address, 6) == [False] * 4 + [True] * 2

    asyncio.run(test())


def test_what_is_no_http_is_answered_with_an_error_object(monkeypatch: pytest.MonkeyPatch) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET\x00 nonsense\r\n\r\n")
        status, headers, error = refusal(await reader.read())
        assert (status, headers["connection"]) == (400, "close")
        assert error["type"] == "invalid_request_error"

    run(client, monkeypatch)
