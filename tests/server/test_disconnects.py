"""Clients that leave, stall or come too many at once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from served import SMALL, Served, events_of, serving, wait_for

from rocmforge.server import streaming
from rocmforge.server.streaming import EventStream

LONG = {"prompt": "Once upon a time", "max_tokens": 500, "ignore_eos": True}
# Many seconds of work, which nobody waits for.
MUCH = {**LONG, "prompt": ["Once upon a time"] * 8, "n": 8}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("disconnects")
    with serving(folder, *SMALL, "--max-num-seqs", "4", "--max-queue", "4") as served:
        yield served


def connect(
    served: Served, body: Any, path: str = "/v1/completions", label: str = ""
) -> socket.socket:
    """Sends a request and leaves the answer in the socket."""
    parts = urlsplit(served.url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=30)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {label}\r\n"
    head += f"Content-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


def slam(connection: socket.socket) -> None:
    """Closes with a reset instead of a goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_costing(server: Served, stream: bool) -> None:
    server.wait_until_idle()
    drawn_before = server.metric("rocmforge_output_tokens_total")
    body = {**MUCH, "stream": stream}
    label = f"leaves-{stream}"
    for _ in range(2):
        connection = connect(server, body, label=label)
        if stream:
            connection.recv(4096)  # the first tokens are there
        wait_for(lambda: server.get("/v1/status").json()["pending_requests"] == 64)
        slam(connection)
        server.wait_until_idle()
    drawn = server.metric("rocmforge_output_tokens_total") - drawn_before
    assert drawn < 2 * 64 * 500

    wait_for(lambda: server.log.read_text().count(label) == 2)
    logged = [e for e in server.log_entries() if e.get("client_request_id") == label]
    assert [entry["status"] for entry in logged] == ([200, 200] if stream else [499, 499])
    assert "traceback" not in server.log.read_text()


def test_streams_cut_at_any_byte_leave_nothing_behind(served: Served) -> None:
    random_ = random.Random(5)
    served.wait_until_idle()
    num_open = served.metric("rocmforge_server_descriptors")
    for _ in range(60):
        path = random_.choice(["/v1/completions", "/v1/generate/stream"])
        body = LONG if path == "/v1/completions" else {"prompt": "The sea", "max_tokens": 500}
        connection = connect(served, {**body, "stream": True}, path)
        connection.recv(random_.choice([1, 20, 300, 3000]))
        random_.choice([slam, socket.socket.close])(connection)
    served.wait_until_idle()
    wait_for(lambda: served.metric("rocmforge_server_descriptors") <= num_open)
    assert served.post("/v1/completions", {"prompt": "x", "max_tokens": 2}).status_code == 200


def test_a_full_queue_is_answered_with_429_at_once_and_the_rest_complete(served: Served) -> None:
    body = {**LONG, "stream": True}
    connections = [connect(served, body) for _ in range(4)]
    for connection in connections:
        connection.recv(1)  # it runs
    connections += [connect(served, body) for _ in range(4)]
    wait_for(lambda: served.get("/v1/status").json()["pending_requests"] == 8)
    started_at = time.monotonic()
    response = served.post("/v1/completions", LONG)
    assert time.monotonic() - started_at < 5
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["code"] == "queue_full"
    for connection in connections:
        data = b""
        while b"[DONE]" not in data:
            more = connection.recv(65536)
            assert more, data[-500:]
            data += more
        connection.close()
    served.wait_until_idle()


def test_a_client_that_does_not_read_does_not_hold_up_another(served: Served) -> None:
    body = {**LONG, "stream": True, "logprobs": 20}  # some 2 kB a token
    lazy = [connect(served, body) for _ in range(2)]
    response = served.post("/v1/completions", {"prompt": "The sea", "max_tokens": 5})
    assert response.status_code == 200
    for connection in lazy:
        slam(connection)
    served.wait_until_idle()


def test_a_request_that_takes_too_long_ends_with_an_error(tmp_path: Path) -> None:
    with serving(tmp_path, *SMALL, ROCMFORGE_REQUEST_TIMEOUT_S="0.5") as served:
        response = served.post("/v1/completions", MUCH)
        assert response.status_code == 503
        assert "took over 0.5 s" in response.json()["error"]["message"]
        served.wait_until_idle()
        events = events_of(served.post("/v1/completions", {**MUCH, "stream": True}).text)
        assert "took over 0.5 s" in events[-1]["error"]["message"]
        served.wait_until_idle()
        assert served.post("/v1/completions", {"prompt": "x", "max_tokens": 1}).status_code == 200


def test_a_stalled_stream_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "STALL_S", 0.05)
    closed: list[str] = []

    async def events() -> Any:
        try:
            while True:
                yield b"data: x\n\n"
        finally:
            closed.append("events")

    async def test() -> None:
        async def never(message: Any = None) -> Any:
            if message is None or message["type"] == "http.response.body":
                await asyncio.Event().wait()

        stream = EventStream(events(), lambda: closed.append("generation"))
        await asyncio.wait_for(stream({"type": "http"}, never, never), 20)

    asyncio.run(test())
    assert closed == ["events", "generation"]


def test_a_lost_engine_ends_the_stream_with_an_error_and_is_replaced(served: Served) -> None:
    with httpx.stream(
        "POST", f"{served.url}/v1/completions", json={**LONG, "n": 4, "stream": True}, timeout=30
    ) as response:
        chunks = response.iter_raw()
        text = next(chunks).decode()
        (engine,) = served.children()
        os.kill(engine, signal.SIGKILL)
        text += "".join(chunk.decode() for chunk in chunks)
    last = events_of(text)[-1]
    assert last["error"]["type"] == "service_unavailable_error"
    assert served.get("/ready").status_code == 503 or served.get("/health").status_code == 200
    wait_for(lambda: served.get("/ready").status_code == 200)
    assert served.metric("rocmforge_engine_restarts_total") == 1
    assert served.post("/v1/completions", {"prompt": "x", "max_tokens": 2}).status_code == 200
