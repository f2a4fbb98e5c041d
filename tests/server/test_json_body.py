"""Bodies: how deep, how wrong, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from rocmforge.server.embeddings import EmbeddingRequest
from rocmforge.server.errors import RequestError
from rocmforge.server.json_body import parse_json
from rocmforge.server.native import DetokenizeRequest
from rocmforge.server.protocol import ChatRequest, CompletionRequest

MANY = 30_000


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CompletionRequest, {"prompt": [{}] * MANY}),
        (CompletionRequest, {"prompt": [["a"] * MANY]}),
        (CompletionRequest, {"prompt": "a", "stop": [1] * MANY}),
        (CompletionRequest, {"prompt": "a", "logit_bias": {str(i): "x" for i in range(MANY)}}),
        (CompletionRequest, {"prompt": "a", **{f"a{i}": 0 for i in range(MANY)}}),
        (ChatRequest, {"messages": [{}] * 4096, "tools": [{}] * 512}),
        (ChatRequest, {"messages": [{"role": "user", "content": [{}] * MANY}]}),
        (ChatRequest, {"messages": [{"role": "user", "tool_calls": [{}] * MANY}]}),
        (ChatRequest, {"messages": [{"role": "user", **{f"a{i}": 0 for i in range(MANY)}}]}),
        (EmbeddingRequest, {"input": [["a"] * MANY]}),
        (DetokenizeRequest, {"tokens": ["a"] * MANY}),
    ],
    ids=lambda v: str(v)[:60],
)
def test_one_mistake_made_many_times_costs_as_little_as_once(
    kind: type[BaseModel], body: Any
) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    assert caught.value.error_count() < 20


def test_a_body_may_nest_64_deep_and_no_deeper() -> None:
    for start, end in (("[", "]"), ('{"a":', "}")):
        inner = "[" + "]"
        assert parse_json((start * 63 + inner + end * 63).encode())
        with pytest.raises(RequestError, match="over 64 deep"):
            parse_json((start * 64 + inner + end * 64).encode())
