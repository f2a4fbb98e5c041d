"""Errors as OpenAI's clients expect them."""

from __future__ import annotations

import math
from typing import Any

from fastapi.responses import JSONResponse

from rocmforge.errors import (
    CapacityError,
    InvalidArgumentError,
    OutOfMemoryError,
    RocmForgeError,
    UnavailableError,
    UnsupportedError,
)

RETRY_AFTER_S = 1.0
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}
_CODES: dict[type[RocmForgeError], str] = {
    CapacityError: "queue_full",
    UnavailableError: "unavailable",
    OutOfMemoryError: "out_of_memory",
    UnsupportedError: "unsupported",
}


class RequestError(InvalidArgumentError):
    """A request that is refused, with the status and the parameter that is to blame."""

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.http_status = status
        self.param = param
        self.code = code


class ClientLeftError(RocmForgeError):
    """Nobody waits for the answer; the status is for the log alone."""

    http_status = 499


def error_object(error: Exception) -> dict[str, Any]:
    """{"error": ...}; what is not meant for a client stays in the log."""
    status = status_of(error)
    if isinstance(error, RocmForgeError) and status != 500:
        message, code = str(error), _CODES.get(type(error))
    else:
        message, code = "internal error; the server's log has the request id", "internal_error"
    param = None
    if isinstance(error, RequestError):
        param, code = error.param, error.code
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def status_of(error: Exception) -> int:
    return error.http_status if isinstance(error, RocmForgeError) else 500


def error_response(error: Exception) -> JSONResponse:
    status = status_of(error)
    headers = {}
    if status in (429, 503):
        headers["retry-after"] = str(math.ceil(RETRY_AFTER_S))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_object(error), status, headers)
