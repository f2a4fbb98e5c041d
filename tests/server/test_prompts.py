"""Prompts that cannot be written or cannot fit."""

from __future__ import annotations

import pytest
from served import Served

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("arguments", ['{"a": "\\ud800"}', '{"a": ' + "[" * 900 + "]" * 900 + "}"])
def test_arguments_that_no_template_could_write_stay_a_text(server: Served, arguments: str) -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": arguments}}
    messages = [{"role": "assistant", "content": "x", "tool_calls": [call]}, *HELLO]
    answer = server.post(CHAT, {"messages": messages, "max_tokens": 1})
    assert answer.status_code in (200, 400), answer.text


def test_what_cannot_fit_is_refused_wherever_it_stands(server: Served) -> None:
    long = "a" * 100_000
    call = {"id": "a", "function": {"name": "f", "arguments": long}}
    for field in ({"reasoning_content": long}, {"tool_calls": [call]}):
        messages = [{"role": "assistant", "content": "x", **field}]
        answer = server.post(CHAT, {"messages": messages})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"
    answer = server.post("/tokenize", {"text": "a" * 1_000_001})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "text"
