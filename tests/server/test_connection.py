"""Connections that do not get on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
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


def run(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_TIMEOUT_S", 0.6)

    async def test() -> None:
        config = uvicorn.Config(answer, log_config=None, ws="none", lifespan="off")
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: BoundedConnection(config=config, server_state=state, app_state={}),
            "127.0.0.1",
        )
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
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
