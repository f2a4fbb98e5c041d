"""Requests that are wrong are answered with what is wrong, and cost nobody anything."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from served import Served

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

# (path, body, parameter that the error names)
WRONG: list[tuple[str, Any, str | None]] = [
    (COMPLETIONS, {}, "prompt"),
    (COMPLETIONS, {"prompt": []}, "prompt"),
    (COMPLETIONS, {"prompt": [[]]}, "prompt"),
    (COMPLETIONS, {"prompt": ["a"] * 33}, "prompt"),
    (COMPLETIONS, {"prompt": ["a"] * 32, "n": 3}, "n"),
    (COMPLETIONS, {"prompt": [-1]}, None),
    (COMPLETIONS, {"prompt": [8192]}, None),
    (COMPLETIONS, {"prompt": [2**40]}, None),
    (COMPLETIONS, {"prompt": [2**70]}, None),
    (COMPLETIONS, {"prompt": [1] * 600}, None),
    (COMPLETIONS, {"prompt": "word " * 10_000}, None),
    (COMPLETIONS, {"prompt": "a", "suffix": "b"}, "suffix"),
    (COMPLETIONS, {"prompt": "a", "best_of": 2}, "best_of"),
    (COMPLETIONS, {"prompt": "a", "logprobs": 21}, "logprobs"),
    (COMPLETIONS, {"prompt": "a", "max_tokens": 513}, "max_tokens"),
    (COMPLETIONS, {"prompt": "a", "model": 7}, "model"),
    (COMPLETIONS, {"prompt": "a", "stop": ["x"] * 17}, "stop"),
    (COMPLETIONS, {"prompt": "a", "stop": ""}, "stop"),
    (COMPLETIONS, {"prompt": "a", "stop": ["x" * 257]}, "stop"),
    (COMPLETIONS, {"prompt": "a", "logit_bias": {"x": 1}}, "logit_bias"),
    (COMPLETIONS, {"prompt": "a", "logit_bias": {"-1": 1}}, "logit_bias"),
    (COMPLETIONS, {"prompt": "a", "logit_bias": {"9999": 1}}, None),
    (COMPLETIONS, {"prompt": "a", "logit_bias": {"1": 101}}, "logit_bias"),
    (COMPLETIONS, {"prompt": "a", "logit_bias": {str(i): 0 for i in range(1025)}}, "logit_bias"),
    (COMPLETIONS, {"prompt": "a", "best": 1}, "best"),
    (COMPLETIONS, {"prompt": "a", "chat_template": "{{ 1 }}"}, "chat_template"),
    (COMPLETIONS, {"prompt": "a", "regex": "a", "grammar": "b"}, "regex"),
    (COMPLETIONS, {"prompt": "a", "regex": "(a"}, None),
    (COMPLETIONS, {"prompt": "a", "grammar": "%llguidance {}\nx"}, None),
    (COMPLETIONS, {"prompt": "a", "response_format": {"type": "xml"}}, "response_format.type"),
    (
        COMPLETIONS,
        {"prompt": "a", "response_format": {"type": "json_schema"}},
        "response_format.json_schema",
    ),
    (COMPLETIONS, {"prompt": "a", "stream_options": True}, "stream_options"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": HELLO * 4097}, "messages"),
    (CHAT, {"messages": "hello"}, "messages"),
    (CHAT, {"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
    (CHAT, {"messages": [{"content": "x"}]}, "messages.0.role"),
    (CHAT, {"messages": [{"role": "user", "content": "word " * 10_000}]}, None),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages.0.content.0.type",
    ),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    (CHAT, {"messages": HELLO, "tool_choice": "some"}, "tool_choice"),
    (CHAT, {"messages": HELLO, "top_logprobs": 2}, "top_logprobs"),
    (CHAT, {"messages": HELLO, "logprobs": 2}, "logprobs"),
    (CHAT, {"messages": HELLO, "max_completion_tokens": 0}, "max_completion_tokens"),
    (CHAT, {"messages": HELLO, "tool_choice": "required"}, "tool_choice"),
    (CHAT, {"messages": HELLO, "tools": [TOOL, TOOL]}, "tools"),
    (CHAT, {"messages": HELLO, "tools": [{"type": "x"}]}, "tools.0.type"),
    (
        CHAT,
        {
            "messages": HELLO,
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "g"}},
        },
        "tool_choice",
    ),
    (
        CHAT,
        {"messages": HELLO, "tools": [TOOL], "tool_choice": "required", "regex": "a"},
        "tool_choice",
    ),
    (
        CHAT,
        {"messages": HELLO, "chat_template_kwargs": {"chat_template": "x"}},
        "chat_template_kwargs.chat_template",
    ),
    (
        CHAT,
        {"messages": HELLO, "chat_template_kwargs": {"tokenize": True}},
        "chat_template_kwargs.tokenize",
    ),
    ("/v1/embeddings", {"input": []}, "input"),
    ("/v1/embeddings", {"input": "a", "dimensions": 8}, "dimensions"),
    ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ("/v1/embeddings", {"input": ["a", [1]]}, "input"),
    ("/v1/embeddings", {"input": [[1, 2], [8192]]}, None),
    ("/v1/generate", {}, "prompt"),
    ("/v1/generate", {"prompt": "a", "max_tokens": 0}, "max_tokens"),
    ("/v1/generate", {"prompt": "a", "top_p": -1.0}, "top_p"),
    ("/v1/generate", {"prompt": "a", "top_p": 1.5}, "top_p"),
    ("/v1/generate/stream", {"prompt": 1}, "prompt"),
    ("/tokenize", {"text": 1}, "text"),
    ("/detokenize", {"tokens": [8192]}, None),
    ("/detokenize", {"tokens": ["1"]}, "tokens.0"),
]


def sampling_fields() -> Iterator[tuple[str, Any]]:
    """Each field with values of the wrong type and out of its range."""
    bad_numbers = [-1e9, 1e9, "1", [], {}, True]
    for name in ("temperature", "min_p", "presence_penalty", "frequency_penalty"):
        yield from ((name, value) for value in bad_numbers)
    yield from (("repetition_penalty", value) for value in [0, -1, 1e9, "1", []])
    yield from (("top_p", value) for value in [-0.5, 1.001, "1", [], True])
    yield from (("top_k", value) for value in [2**40, 1.5, "1", []])
    yield from (("n", value) for value in [0, -1, 9, 10**6, 1.5, "1"])
    yield from (("max_tokens", value) for value in [0, -1, 2**63, 1.5, "1", []])
    yield from (("seed", value) for value in [2**64, -(2**63) - 1, 1.5, "1"])
    yield from ((name, value) for name in ("stream", "ignore_eos") for value in ["yes", 2, []])


def refused(served: Served, path: str, body: Any) -> dict[str, Any]:
    response = served.post(path, body)
    assert response.status_code == 400, (body, response.text)
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize(("path", "body", "param"), WRONG, ids=lambda v: str(v)[:60])
def test_a_wrong_value_is_refused_by_name(
    server: Served, path: str, body: Any, param: str | None
) -> None:
    found = refused(server, path, body)["param"]
    assert found == param or re.fullmatch(rf"{param}(\.\d+)+", str(found))


def test_every_sampling_field_refuses_what_it_does_not_take(server: Served) -> None:
    for path, start in ((COMPLETIONS, {"prompt": "a"}), (CHAT, {"messages": HELLO})):
        for name, value in sampling_fields():
            found = refused(server, path, {**start, name: value})["param"]
            assert found is not None, (name, value)
            assert found.split(".")[0] == name, (name, value)


BODIES = {
    "empty": b"",
    "not JSON": b"hello",
    "a list": b"[]",
    "null": b"null",
    "cut off": b'{"prompt": "a',
    "deep": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "rather deep": b'{"prompt": ' + b"[" * 65 + b"]" * 65 + b"}",
    "a name twice": b'{"prompt": "a", "prompt": "b"}',
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "Infinity": b'{"prompt": "a", "temperature": Infinity}',
    "a number beyond floats": b'{"prompt": "a", "temperature": 1e400}',
    "an endless integer": b'{"prompt": "a", "seed": ' + b"9" * 100_000 + b"}",
    "a lone surrogate": b'{"prompt": "\\ud800"}',
    "a lone surrogate where nothing reads it": b'{"prompt": "a", "metadata": {"\\uDFFF": 1}}',
    "a byte order mark": b'\xef\xbb\xbf{"prompt": "a"}',
    "UTF-16": '{"prompt": "a"}'.encode("utf-16"),
    "not UTF-8": b'{"prompt": "\xff"}',
    "null bytes": b"\0" * 100,
}


@pytest.mark.parametrize("name", BODIES)
def test_a_malformed_body_is_refused(server: Served, name: str) -> None:
    response = server.post(COMPLETIONS, content=BODIES[name])
    assert response.status_code == 400, response.text
    assert "error" in response.json()


def test_a_null_character_in_a_prompt_is_text(server: Served) -> None:
    assert server.post(COMPLETIONS, {"prompt": "a\0b", "max_tokens": 1}).status_code == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: Served) -> None:
    def chunks(count: int) -> Iterator[bytes]:
        return itertools.repeat(b"x" * 65536, count)

    for body in (b"x" * (9 * 2**20), chunks(9 * 16)):
        response = server.post(COMPLETIONS, content=body)
        assert response.status_code == 413
        assert response.headers["connection"] == "close"
    assert raw(server, b"Content-Length: 99999999999999999999\r\n\r\n").startswith(b"HTTP/1.1 413")
    # One that goes on for ever finds the connection closed.
    with contextlib.suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        assert server.post(COMPLETIONS, content=chunks(10_000)).status_code == 413


def test_a_client_may_finish_sending_what_was_too_large(server: Served) -> None:
    parts = urlsplit(server.url)
    size = 16 * 2**20
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        head = f"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(65536)
        connection.sendall(b"x" * size)
        while connection.recv(65536):
            pass


def raw(served: Served, rest: bytes, line: bytes = b"POST /v1/completions HTTP/1.1\r\n") -> bytes:
    """The answer to bytes as they are."""
    parts = urlsplit(served.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(line + b"Host: localhost\r\n" + rest)
        data = b""
        while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
            data += more
        return data


@pytest.mark.parametrize(
    ("line", "rest", "statuses"),
    [
        (b"GET /nothing HTTP/1.1\r\n", b"\r\n", {404}),
        (b"GET /v1/completions HTTP/1.1\r\n", b"\r\n", {405}),
        (b"OPTIONS /v1/completions HTTP/1.1\r\n", b"Origin: http://x\r\n\r\n", {405}),
        (b"GET //v1/models HTTP/1.1\r\n", b"\r\n", {404}),
        (b"GET /v1/..;/health HTTP/1.1\r\n", b"\r\n", {404}),
        (b"GET /v1%2fmodels HTTP/1.1\r\n", b"\r\n", {200, 404}),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n", b"\r\n", {414}),
        (b"GET /health HTTP/1.1\r\n", b"X: y\r\n" * 101 + b"\r\n", {431}),
        (b"GET /health HTTP/1.1\r\n", b"X: " + b"y" * 2**20 + b"\r\n\r\n", {400, 431}),
        (b"POST /v1/completions HTTP/1.1\r\n", b"Content-Encoding: gzip\r\n\r\n", {415}),
        (
            b"POST /v1/completions HTTP/1.1\r\n",
            b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            {400},
        ),
        (b"POST /v1/completions HTTP/1.1\r\n", b"Content-Length: -1\r\n\r\n", {400}),
        (
            b"POST /v1/completions HTTP/1.1\r\n",
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            {400},
        ),
        (b"NONSENSE\r\n", b"\r\n", {400}),
        (b"PRI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n", {400, 404}),
        (b"\x16\x03\x01\x02\0\x01\0\r\n", b"\r\n", {400}),
    ],
)
def test_odd_requests_get_a_clear_status(
    server: Served, line: bytes, rest: bytes, statuses: set[int]
) -> None:
    try:
        answer = raw(server, rest, line)
    except ConnectionError:  # closed while we still wrote
        answer = b""
    assert answer == b"" or int(answer.split()[1]) in statuses
    assert b"access-control" not in answer.lower()
    assert server.get("/health").status_code == 200


def test_errors_say_nothing_of_the_inside(server: Served) -> None:
    for path, body, _ in WRONG:
        text = server.post(path, body).text
        assert "Traceback" not in text
        assert "/python/" not in text
        assert " object at 0x" not in text


def test_after_all_that_the_server_is_idle_and_has_not_failed_once(server: Served) -> None:
    assert server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 2}).status_code == 200
    statuses = [entry.get("status", 0) for entry in server.log_entries()]
    assert not [status for status in statuses if status >= 500]
    assert "traceback" not in json.dumps(server.log_entries())
