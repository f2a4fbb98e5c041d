"""Logs as JSON, one object a line. What users send and what models answer is never in them."""

from __future__ import annotations

import json
import logging
import sys
import time

_FIELDS = (
    *("request_id", "method", "route", "status", "duration_s"),
    *("prompt_tokens", "completion_tokens", "client_request_id"),
)


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
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def configure_logging(level: str) -> None:
    """Sends the logs of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
