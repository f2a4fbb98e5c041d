"""Bounds on what all requests together hold, and on how long one waits."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from served import SMALL, connected, serving, wait_for

from hostile import ask
from hostile.exchange import Answer, post
from rocmforge.engine.messages import Heartbeat
from rocmforge.errors import UnavailableError
from rocmforge.server import prompts
from rocmforge.server.errors import RequestError
from rocmforge.server.guard import FREE_BODY_BYTES
from rocmforge.server.prompts import encode_chat, encode_prompts
from rocmforge.server.protocol import ChatRequest
from rocmforge.server.settings import ServerSettings
from rocmforge.server.state import ServerState

COMPLETIONS = "/v1/completions"
LONG = {"prompt": "Once upon a time", "max_tokens": 480, "ignore_eos": True}
MODEL_LEN = 128


def test_who_waits_too_long_for_a_first_step_gets_503_streaming_or_not(tmp_path: Path) -> None:
    with (
        serving(tmp_path, *SMALL, "--max-num-seqs", "1", ROCMFORGE_QUEUE_TIMEOUT_S="0.3") as served,
        connected(served) as first,
    ):
        send(first, {**LONG, "n": 8, "stream": True})
        data = first.recv(65536)
        for path, body in (
            (COMPLETIONS, LONG),
            (COMPLETIONS, {**LONG, "stream": True}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
            (
                "/v1/chat/completions",
                {"messages": [{"role": "user", "content": "x"}], "stream": True},
            ),
            ("/v1/generate/stream", {"prompt": "x"}),
            ("/v1/embeddings", {"input": ["x", "y"]}),
        ):
            response = served.post(path, body)
            assert response.status_code == 503, (path, response.text[:200])
            assert response.headers["retry-after"] == "1"
            error = response.json()["error"]
            assert error["type"] == "service_unavailable_error"
            assert "waited too long" in error["message"]
        # What runs goes on, and so do its choices, which wait for one another.
        deadline = time.monotonic() + 30
        while b'"index":1,"text":"' not in data:
            assert time.monotonic() < deadline
            data = data[-100:] + first.recv(65536)
            assert b'"error"' not in data


def send(connection: socket.socket, body: Any, *, but: int = 0) -> None:
    """Sends a completion request, without the last `but` bytes of it."""
    data = json.dumps(body).encode()
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall((head.encode() + data)[: -but or None])


def test_all_bodies_together_are_bounded_and_small_ones_always_taken(tmp_path: Path) -> None:
    with serving(tmp_path, *SMALL, ROCMFORGE_MAX_HELD_BYTES="1000000") as served:
        half = {"prompt": "x", "user": "u" * (FREE_BODY_BYTES + 600_000), "max_tokens": 1}
        with connected(served) as first:
            send(first, half, but=1)
            # When the first is held there is room for no other of its size.
            wait_for(lambda: served.post(COMPLETIONS, half).status_code == 503)
            refused = served.post(COMPLETIONS, half)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["connection"] == "close"
            assert refused.json()["error"]["code"] == "unavailable"
            small = {"prompt": "x", "user": "u" * (FREE_BODY_BYTES - 1000), "max_tokens": 1}
            assert served.post(COMPLETIONS, small).status_code == 200
            first.sendall(b"}")
            assert first.recv(65536).startswith(b"HTTP/1.1 200")
        # What was held is given back by answers, refusals and clients that leave.
        for _ in range(5):
            assert served.post(COMPLETIONS, half).status_code == 200
            assert served.post(COMPLETIONS, {**half, "n": 0}).status_code == 400
            with connected(served) as leaving:
                send(leaving, half, but=1)
                wait_for(lambda: served.post(COMPLETIONS, half).status_code == 503)
            wait_for(lambda: served.post(COMPLETIONS, half).status_code == 200)


class Untouchable:
    """A tokenizer that must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def state_with(tokenizer: Any) -> Any:
    return SimpleNamespace(
        tokenizer=tokenizer,
        model=SimpleNamespace(max_model_len=MODEL_LEN, is_causal=True),
        encoding=nullcontext,
    )


LIMIT = MODEL_LEN * prompts._MAX_BYTES_PER_TOKEN
WIDE = "é" * (LIMIT // 2)  # two bytes each
CALL = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
LARGE: dict[str, dict[str, Any]] = {
    "content": {"content": WIDE},
    "parts": {"content": [{"type": "text", "text": WIDE[:-1]}, {"type": "text", "text": "é"}]},
    "name": {"content": "x", "name": WIDE},
    "reasoning": {"content": "x", "reasoning_content": WIDE},
    "tool call id": {"content": "x", "tool_call_id": WIDE},
    "arguments": {
        "content": "x",
        "tool_calls": [{**CALL, "function": {"name": "f", "arguments": WIDE}}],
    },
    "id of a call": {"content": "x", "tool_calls": [{**CALL, "id": WIDE}]},
    "name of a call": {
        "content": "x",
        "tool_calls": [{**CALL, "function": {"name": WIDE, "arguments": ""}}],
    },
}


@pytest.mark.parametrize("where", LARGE)
def test_a_chat_that_is_too_long_is_refused_before_its_template_runs(where: str) -> None:
    small = {"role": "user", "content": "xx"}
    body = ChatRequest.model_validate({"messages": [{"role": "user", **LARGE[where]}, small]})
    with pytest.raises(RequestError, match="cannot fit") as caught:
        asyncio.run(encode_chat(state_with(Untouchable()), body, None))
    assert caught.value.code == "context_length_exceeded"


def test_tools_that_are_too_long_are_refused_before_the_template_runs() -> None:
    body = ChatRequest.model_validate({"messages": [{"role": "user", "content": "x"}]})
    tools = [{"type": "function", "function": {"name": "f", "description": WIDE}}]
    with pytest.raises(RequestError, match="cannot fit"):
        asyncio.run(encode_chat(state_with(Untouchable()), body, tools))


def test_a_chat_of_just_the_most_bytes_is_written() -> None:
    class Writer:
        def encode_chat(self, messages: list[Any], tools: Any) -> list[int]:  # noqa: ARG002
            return [len(messages)]

    body = ChatRequest.model_validate({"messages": [{"role": "user", "content": WIDE}]})
    assert asyncio.run(encode_chat(state_with(Writer()), body, None)) == [1]


def test_prompts_that_are_too_long_are_refused_before_they_are_encoded() -> None:
    for long in (WIDE + "x", "x" * (LIMIT + 1)):
        with pytest.raises(RequestError, match="cannot fit"):
            asyncio.run(encode_prompts(state_with(Untouchable()), ["x", long]))


@pytest.mark.parametrize("limit", [None, 2**40, 2**30])
def test_over_the_limit_of_memory_nothing_more_is_taken(limit: int | None) -> None:
    class Engine:
        heartbeat = Heartbeat(None, rss_bytes=2**31, progress=0)  # type: ignore[arg-type]

        def check_room(self, num_coming: int) -> None:
            pass

    state = ServerState(
        ServerSettings.load(max_rss_bytes=limit),
        None,
        None,
        Engine(),
        None,  # type: ignore[arg-type]
    )

    def open_(state: ServerState) -> None:
        with state.encoding():
            assert state.num_encoding == 1

    if limit == 2**30:
        with pytest.raises(UnavailableError, match="memory"):
            open_(state)
    else:
        open_(state)
        assert state.num_encoding == 0


def test_a_model_that_takes_more_memory_than_it_may_is_not_served(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="max_rss_bytes is 10000000, but the model is loaded"),
        serving(tmp_path, *SMALL, ROCMFORGE_MAX_RSS_BYTES="10000000"),
    ):
        pass


def test_an_overload_is_answered_with_429_or_503_and_what_is_taken_is_completed(
    tmp_path: Path,
) -> None:
    """200 clients for 8 places, twice: before anybody has a place, and when all are taken."""

    def request(num_tokens: int) -> bytes:
        return post(COMPLETIONS, {**LONG, "max_tokens": num_tokens})

    async def ask_all(address: tuple[str, int]) -> list[Answer]:
        first = [asyncio.create_task(ask(*address, request(40))) for _ in range(200)]
        answers = list(await asyncio.gather(*first))
        taken = [asyncio.create_task(ask(*address, request(500))) for _ in range(4)]
        while served.metric("rocmforge_requests_running") < 4:
            await asyncio.sleep(0.05)
        taken += [asyncio.create_task(ask(*address, request(500))) for _ in range(4)]
        while (await asyncio.to_thread(served.get, "/v1/status")).json()["pending_requests"] < 8:
            await asyncio.sleep(0.05)
        started_at, cpu_s = len(served.log_entries()), served.cpu_s
        refused = await asyncio.gather(*(ask(*address, request(40)) for _ in range(200)))
        cpu_times.append(served.cpu_s - cpu_s)
        durations.extend(
            e["duration_s"] for e in served.log_entries()[started_at:] if e["status"] == 429
        )
        return [*answers, *refused, *await asyncio.gather(*taken)]

    durations: list[float] = []
    cpu_times: list[float] = []
    limits = ("--max-num-seqs", "4", "--max-queue", "4")
    with serving(tmp_path, *SMALL, *limits) as served:
        parts = urlsplit(served.url)
        answers = asyncio.run(ask_all((parts.hostname or "", parts.port or 0)))
        statuses = [answer.status for answer in answers]
        assert set(statuses) == {200, 429}
        assert statuses[:200].count(200) >= 4  # the queue; they come faster than a step ends
        assert statuses[-8:] == [200] * 8
        for answer in answers:
            if answer.status == 200:
                assert json.loads(answer.body)["usage"]["completion_tokens"] in (40, 500)
            else:
                assert b"\r\nretry-after: 1\r\n" in answer.head.lower()
        served.wait_until_idle()
    assert len(durations) >= 190
    assert max(durations) < 0.1
    # The last of them has its answer after the work for all, which a machine that does other things
    # meanwhile takes longer for: what counts is the work. 0.1 s of it, or twice that in bad company.
    assert cpu_times[0] < 0.2
