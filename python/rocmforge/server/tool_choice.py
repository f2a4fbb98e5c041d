"""How the tools of a request bear on its prompt, its grammar and the reading of the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rocmforge.server.chat_parser import (
    ArgumentsContent,
    ContentParser,
    PlainContent,
    ToolContent,
)
from rocmforge.server.errors import RequestError
from rocmforge.server.protocol import ChatRequest, NamedTool, ToolFunction
from rocmforge.server.tool_calls import MARKS
from rocmforge.tokenizer import Tokenizer

_MAX_SCHEMA_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """What `tools` and `tool_choice` come to."""

    for_template: list[dict[str, Any]] | None
    json_schema: str | None  # that the answer has to follow
    names: frozenset[str]  # tools the model may call as it likes
    forced: str | None  # the only tool, whose arguments are the answer

    @classmethod
    def of(cls, body: ChatRequest) -> ToolPlan:
        """Raises RequestError for a choice that does not go with the tools."""
        functions = [tool.function for tool in body.tools or []]
        names = [function.name for function in functions]
        if len(set(names)) != len(names):
            msg = "two tools have the same name"
            raise RequestError(msg, param="tools")
        choice = body.tool_choice if body.tool_choice is not None else "auto"
        if not functions and choice not in ("auto", "none"):
            msg = "tool_choice needs tools"
            raise RequestError(msg, param="tool_choice")
        if not functions or choice == "none":
            return cls(None, None, frozenset(), None)
        shown = [tool.model_dump(exclude_none=True) for tool in body.tools or []]
        if choice == "auto":
            return cls(shown, None, frozenset(names), None)
        if _is_structured(body):
            msg = "a tool that has to be called leaves no room for another form of the output"
            raise RequestError(msg, param="tool_choice")
        if not isinstance(choice, NamedTool):
            schema = {"anyOf": [_call_schema(function) for function in functions]}
            return cls(shown, _text(schema), frozenset(names), None)
        name = choice.function.name
        if name not in names:
            msg = f"tool_choice names {name[:64]!r}, which is not among the tools"
            raise RequestError(msg, param="tool_choice")
        return cls(shown, _text(_parameters(functions[names.index(name)])), frozenset(), name)

    def parser(self) -> ContentParser:
        if self.forced is not None:
            return ArgumentsContent(self.forced)
        return ToolContent(self.names) if self.names else PlainContent()

    def shown_ids(self, tokenizer: Tokenizer) -> frozenset[int]:
        """Control tokens that begin or end a call."""
        if not self.names:
            return frozenset()
        marks = {mark.encode() for mark in MARKS}
        return frozenset(i for i in tokenizer.special_ids if tokenizer.token_bytes(i) in marks)


def _is_structured(body: ChatRequest) -> bool:
    wanted = body.response_format
    return (
        body.regex is not None
        or body.grammar is not None
        or (wanted is not None and wanted.type != "text")
    )


def _call_schema(function: ToolFunction) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": _parameters(function)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _parameters(function: ToolFunction) -> dict[str, Any]:
    return function.parameters or {"type": "object", "properties": {}}


def _text(schema: dict[str, Any]) -> str:
    text = json.dumps(schema)
    if len(text) > _MAX_SCHEMA_BYTES:
        msg = f"the schemas of the tools have {len(text)} bytes; the limit is {_MAX_SCHEMA_BYTES}"
        raise RequestError(msg, param="tools")
    return text
