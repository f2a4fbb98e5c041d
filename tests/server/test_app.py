"""What becomes of errors that nobody has thought of."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from rocmforge.server.app import create_app
from rocmforge.server.keys import ApiKeys
from rocmforge.server.metrics import Metrics
from rocmforge.server.settings import ServerSettings
from rocmforge.server.state import ServerState


def test_a_bug_is_answered_as_an_error_without_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        @property
        def is_ready(self) -> bool:
            raise KeyError(*["words"])

    settings = ServerSettings.load()
    state = ServerState(settings, ApiKeys([]), Metrics(), Broken(), None)  # type: ignore[arg-type]
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/health",
        "raw_path": b"/health",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    with caplog.at_level(logging.ERROR):
        asyncio.run(create_app(state)(scope, receive, send))
    assert sent[0]["status"] == 500
    error = json.loads(b"".join(message.get("body", b"") for message in sent))["error"]
    assert error["code"] == "internal_error"
    assert "words" not in json.dumps(error)
    assert [record.message for record in caplog.records] == ["a bug"]
