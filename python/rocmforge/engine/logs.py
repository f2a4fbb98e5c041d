"""Logs as JSON, one object a line. What users send and what models answer is never in them."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback

_FIELDS = (
    *("request_id", "method", "route", "status", "duration_s"),
    *("prompt_tokens", "completion_tokens", "queue_s", "prefill_s", "decode_s"),
    "client_request_id",
)

_MAX_CAUSES = 8


class JsonFormatter(logging.Formatter):
    """Escapes control characters, as JSON does, and other text than ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        fields.update({name: vars(record)[name] for name in _FIELDS if name in vars(record)})
        if record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = _without_content(record.exc_info[1])
        return json.dumps(fields)


def _without_content(error: BaseException) -> list[str]:
    """Types and places of an error and of what it came from: messages may quote a request."""
    lines: list[str] = []
    current: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if current is None:
            break
        lines.append(f"{type(current).__module__}.{type(current).__qualname__}")
        for frame in traceback.extract_tb(current.__traceback__):
            lines.append(f"  {frame.filename}:{frame.lineno} in {frame.name}")
        current = current.__cause__ or current.__context__
    return lines


def configure_logging(level: str) -> None:
    """Sends the logs of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
