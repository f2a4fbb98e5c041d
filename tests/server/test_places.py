"""Places in the queue of the engine, for requests that are on their way there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rocmforge.errors import CapacityError
from rocmforge.server import guard
from rocmforge.server.guard import Guard
from rocmforge.server.keys import ApiKeys
from rocmforge.server.metrics import Metrics
from rocmforge.server.settings import ServerSettings
from rocmforge.server.state import ServerState

NUM_PLACES = 2


class Engine:
    """Takes as many as there are places, and keeps none."""

    heartbeat = None

    def check_room(self, num_coming: int) -> None:
        if num_coming >= NUM_PLACES:
            raise CapacityError(str(num_coming))


class Served:
    """A guard before a route that parses what `may_go` lets it parse."""

    def __init__(self) -> None:
        settings = ServerSettings.load()
        self.state = ServerState(settings, ApiKeys([]), Metrics(), Engine(), None)  # type: ignore[arg-type]
        self.guard = Guard(self.route, self.state)
        self.may_go = asyncio.Event()
        self.num_parsed = 0

    async def route(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        while (await receive()).get("more_body", False):
            pass
        self.num_parsed += 1
        await self.may_go.wait()
        # As routes do, in a task of their own; the place is this one's now, and no second one.
        await asyncio.create_task(self.encode())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def encode(self) -> None:
        before = self.state.num_encoding
        with self.state.encoding():
            assert self.state.num_encoding == before

    @asynccontextmanager
    async def asking(
        self, receive: Callable[[], Awaitable[Any]]
    ) -> AsyncIterator[tuple[asyncio.Task[None], list[Any]]]:
        """A request that has gone as far as it gets alone, and what it is sent."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/completions",
            "raw_path": b"/v1/completions",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }
        task = asyncio.create_task(self.guard(scope, receive, send))
        await asyncio.sleep(0)
        try:
            yield task, sent
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def whole() -> Any:
    return {"type": "http.request", "body": b"{}"}


async def never() -> Any:
    await asyncio.Event().wait()


def test_requests_beyond_the_places_are_refused_before_they_are_parsed() -> None:
    async def check() -> None:
        served = Served()
        # Who has not sent all of a body has no place, so that nobody can keep one that way.
        async with (
            served.asking(never),
            served.asking(never),
            served.asking(whole) as first,
            served.asking(whole) as second,
            served.asking(whole) as third,
        ):
            assert third[1][0]["status"] == 429
            assert (b"retry-after", b"1") in third[1][0]["headers"]
            assert served.num_parsed == served.state.num_encoding == 2
            served.may_go.set()
            await asyncio.gather(first[0], second[0], third[0])
            assert first[1][0]["status"] == second[1][0]["status"] == 200
            assert served.state.num_encoding == 0

    asyncio.run(check())


def test_a_request_that_fails_or_leaves_gives_its_place_back() -> None:
    async def check() -> None:
        served = Served()
        async with served.asking(whole), served.asking(whole):
            assert served.state.num_encoding == 2
        assert served.state.num_encoding == 0

    asyncio.run(check())


def test_a_body_that_arrives_while_all_places_are_taken_is_refused_unparsed() -> None:
    async def check() -> None:
        served = Served()
        rest = asyncio.Event()

        async def late() -> Any:
            await rest.wait()
            return await whole()

        async with served.asking(late) as (task, sent), served.asking(whole), served.asking(whole):
            rest.set()
            await asyncio.gather(task, return_exceptions=True)
            assert served.num_parsed == 2
            assert sent[0]["status"] == 429

    asyncio.run(check())


def test_a_body_that_does_not_arrive_in_time_is_answered_with_408(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "BODY_TIMEOUT_S", 0.02)

    async def check() -> None:
        async with Served().asking(never) as (task, sent):
            await asyncio.wait_for(task, 5)
            assert sent[0]["status"] == 408
            assert (b"connection", b"close") in sent[0]["headers"]
            body = json.loads(b"".join(message.get("body", b"") for message in sent))
            assert "did not arrive within 0.02 s" in body["error"]["message"]

    asyncio.run(check())


def test_a_request_that_is_cancelled_in_its_body_is_not_answered() -> None:
    async def check() -> None:
        async with Served().asking(never) as (task, sent):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sent == []

    asyncio.run(check())
