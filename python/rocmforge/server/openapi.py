"""The OpenAPI document of the routes, from the types that check the requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from rocmforge.server.guard import OPEN_PATHS

_REF: Final = "#/components/schemas/{model}"
_JSON_TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


@dataclass(frozen=True, slots=True)
class Description:
    """What a route takes and answers; `answer` maps names of a JSON object to Python types."""

    body: type[BaseModel] | None = None
    answer: Mapping[str, type] = field(default_factory=dict)
    media_type: str = "application/json"
    also_streams: bool = False
    is_unavailable: bool = False  # 503 has the same form as 200


def described(body: type[BaseModel] | None = None, **settings: Any) -> dict[str, Any]:
    """`openapi_extra` of a route; see Description."""
    return {"described": Description(body, **settings)}


def document(routers: Iterable[APIRouter], version: str) -> dict[str, Any]:
    """OpenAPI 3.1 of all routes; every one has to be described."""
    routes = [route for r in routers for route in r.routes if isinstance(route, APIRoute)]
    paths: dict[str, dict[str, Any]] = {}
    bodies: dict[type[BaseModel], None] = {}
    for route in routes:
        what: Description = (route.openapi_extra or {})["described"]
        if what.body is not None:
            bodies[what.body] = None
        for method in sorted(route.methods or ()):
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, what)
    _, schemas = models_json_schema([(body, "validation") for body in bodies], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ROCmForge", "version": version},
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: APIRoute, what: Description) -> dict[str, Any]:
    content: dict[str, Any] = {what.media_type: {}}
    if what.media_type != "text/event-stream":
        content[what.media_type]["schema"] = _answer_schema(what)
    if what.also_streams:
        content["text/event-stream"] = {}
    error = {"schema": {"$ref": _REF.format(model="Error")}}
    refused = {"description": "an error", "content": {"application/json": error}}
    answered = {"description": "the answer", "content": content}
    responses = {"200": answered, "4XX": refused, "5XX": refused}
    if what.is_unavailable:
        responses["503"] = {**answered, "description": "not at present"}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": (route.endpoint.__doc__ or route.name.replace("_", " ")).strip(),
        "responses": responses,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", route.path)
        ],
    }
    if what.body is not None:
        schema = {"$ref": _REF.format(model=what.body.__name__)}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    if route.path not in OPEN_PATHS:
        operation["security"] = [{"key": []}, {}]  # a server may have no keys
    return operation


def _answer_schema(what: Description) -> dict[str, Any]:
    if not what.answer:
        return {"type": "string"}
    return {
        "type": "object",
        "required": list(what.answer),
        "properties": {name: _type_schema(kind) for name, kind in what.answer.items()},
    }


def _type_schema(kind: type) -> dict[str, Any]:
    if kind is list:
        return {"type": "array", "items": {}}
    return {"type": _JSON_TYPES.get(kind, "object")}
