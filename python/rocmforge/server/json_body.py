"""Bodies of requests: read within bounds, parsed strictly, checked against a type."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from rocmforge.server.errors import ClientLeftError, RequestError

MAX_DEPTH = 64
# Parsing more than this takes over a millisecond, in which the loop has others to serve.
_LARGE_BYTES = 64 * 1024
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, kind: type[Body]) -> Body:
    """Raises RequestError, naming the parameter."""
    try:
        data = await request.body()
    except ClientDisconnect:
        msg = "the client left before its request was complete"
        raise ClientLeftError(msg) from None
    if len(data) > _LARGE_BYTES:
        return await asyncio.to_thread(_checked, data, kind)
    return _checked(data, kind)


def _checked(data: bytes, kind: type[Body]) -> Body:
    value = parse_json(data)
    if not isinstance(value, dict):
        _refuse("the body must be a JSON object")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        # Of several forms that a value may have, the one that fits best fails deepest.
        found = error.errors(include_url=False, include_input=False, include_context=False)
        first = max(found, key=lambda item: len(_path(item["loc"])))
        param = ".".join(_path(first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such parameter"
        raise RequestError(f"{param}: {message}" if param else message, param=param) from None


def _path(loc: tuple[int | str, ...]) -> list[str]:
    """Without what pydantic puts between, the names of types."""
    return [
        str(item)
        for item in loc
        if isinstance(item, int) or (item.isidentifier() and item.islower() and item != "str")
    ]


def parse_json(data: bytes) -> Any:
    """Strict JSON: UTF-8, whole characters, no name twice in an object, no NaN, at most MAX_DEPTH deep."""
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except RequestError:
        raise
    except UnicodeDecodeError:
        _refuse("the body is not UTF-8")
    except RecursionError:
        _refuse(f"the body is nested over {MAX_DEPTH} deep")
    except ValueError as error:
        _refuse(f"the body is not JSON: {error}"[:300])
    if _SURROGATE.search(data):
        _check_characters(value)
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, dict | list)
        ]
    if level:
        _refuse(f"the body is nested over {MAX_DEPTH} deep")
    return value


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        _refuse("the body has half of a surrogate pair, which is no character")
    except RecursionError:
        _refuse(f"the body is nested over {MAX_DEPTH} deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        _refuse("an object of the body has a name twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"the body is not JSON: {name} is no number")


def _refuse(message: str) -> NoReturn:
    raise RequestError(message)
