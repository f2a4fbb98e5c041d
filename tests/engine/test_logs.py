"""What the server logs: places and types of errors, never what a user has sent."""

from __future__ import annotations

import json
import logging
import sys

from rocmforge.engine.logs import JsonFormatter

WORDS = "the user's own words"


def logged() -> dict[str, object]:
    try:
        try:
            raise KeyError(WORDS)
        except KeyError as error:
            msg = f"no way to read {WORDS!r}"
            raise ValueError(msg) from error
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "a bug", None, sys.exc_info())
        record.request_id = "req-1"
        return json.loads(JsonFormatter().format(record))


def test_error_is_logged_by_type_and_place_with_its_causes() -> None:
    entry = logged()
    assert (entry["event"], entry["level"], entry["request_id"]) == ("a bug", "error", "req-1")
    lines = entry["traceback"]
    assert isinstance(lines, list)
    assert [line for line in lines if not line.startswith(" ")] == [
        "builtins.ValueError",
        "builtins.KeyError",
    ]
    assert all(f"{__file__}:" in line for line in lines if line.startswith(" "))


def test_message_of_an_error_is_not_logged() -> None:
    assert WORDS not in json.dumps(logged())
