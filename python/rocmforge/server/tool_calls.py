"""Calls of tools in a model's text, in the forms that model families have learned.

    Qwen, Hermes    <tool_call>{"name": ..., "arguments": {...}}</tool_call>, any number
    Mistral         [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]
                    or [TOOL_CALLS]name[ARGS]{...}, any number
    Llama 3         {"name": ..., "parameters": {...}}, after <|python_tag|> or at the beginning,
                    several with a semicolon between them
    others          JSON of one of these shapes, or a list of it, at the beginning

What looks like a call but is none (it does not parse, or no such tool was offered) is text.
Models' text is read as JSON and never as anything else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, NoReturn

HERMES: Final = "<tool_call>"
HERMES_END: Final = "</tool_call>"
MISTRAL: Final = "[TOOL_CALLS]"
MISTRAL_ARGS: Final = "[ARGS]"
LLAMA: Final = "<|python_tag|>"
# Vocabularies have some of these as control tokens, whose text is otherwise left out.
MARKS: Final = frozenset({HERMES, HERMES_END, MISTRAL, MISTRAL_ARGS, LLAMA})
_OPENING: Final = (HERMES, MISTRAL, LLAMA)
# Longer ones are text: what is held back is bounded.
MAX_CALL_CHARACTERS: Final = 256 * 1024
# White space that is held back until it is known what it belongs to; after more it is text.
MAX_SPACE: Final = 1024
_SEPARATORS: Final = " \t\r\n;,"


@dataclass(frozen=True, slots=True)
class ParsedCall:
    name: str
    arguments: str  # JSON


class ToolCallParser:
    """Feeds on text; gives text and calls, each call once it is complete."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._buffer = ""
        self._mark = ""  # the form whose call is being read; "" in text, "{" for bare JSON
        self._opening = ""  # what stood before that call: its mark, or white space
        self._is_start = True  # nothing but white space so far: bare JSON may follow
        self._has_called = False
        self._value = _JsonScanner()
        self._num_searched = 0  # characters of the buffer that hold no end of a call

    def push(self, text: str) -> tuple[str, list[ParsedCall]]:
        self._buffer += text
        content: list[str] = []
        calls: list[ParsedCall] = []
        while self._advance(content, calls):
            pass
        return "".join(content), calls

    def finish(self) -> tuple[str, list[ParsedCall]]:
        """What was held back is text, unless it is space after a call."""
        rest, self._buffer = self._buffer, ""
        opening = self._opening if self._mark else ""
        self._mark = ""
        if self._has_called and not rest.strip(_SEPARATORS):
            return "", []
        return opening + rest, []

    def _advance(self, content: list[str], calls: list[ParsedCall]) -> bool:
        """Takes one step; False if more text is needed for the next."""
        if not self._buffer:
            return False
        if not self._mark:
            return self._read_text(content)
        found = self._read_call()
        parsed: list[ParsedCall] = []
        length = len(self._buffer)
        if found is not None:
            length, parsed = found
        elif length <= MAX_CALL_CHARACTERS:
            return False
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        if parsed:
            calls += parsed
            self._has_called = True
            self._is_start = True
        else:
            content.append(self._opening + taken)
            self._is_start = False
        self._mark = ""
        self._value = _JsonScanner()
        self._num_searched = 0
        return True

    def _read_text(self, content: list[str]) -> bool:
        text = self._buffer
        if self._is_start:
            begin = text.lstrip(_SEPARATORS if self._has_called else None)
            self._is_start = len(text) - len(begin) <= MAX_SPACE
        if self._is_start:
            if not begin:
                return False
            marked = any(begin.startswith(mark) for mark in _OPENING)
            may_be_mark = any(mark.startswith(begin) for mark in _OPENING)
            if begin[0] in "{[" and not marked and not may_be_mark:
                self._opening = text[: len(text) - len(begin)]
                self._buffer, self._mark = begin, "{"
                return True
            if may_be_mark and not marked:
                return False
            if marked and self._has_called:
                text = self._buffer = begin
        at, mark = min(
            ((i, m) for m in _OPENING if (i := text.find(m)) >= 0), default=(len(text), "")
        )
        if mark:
            content.append(text[:at])
            self._buffer = text[at + len(mark) :]
            self._mark = self._opening = mark
            return True
        num_held = max(held_length(text, mark) for mark in _OPENING)
        content.append(text[: len(text) - num_held])
        self._buffer = text[len(text) - num_held :]
        self._is_start = False
        return False

    def _read_call(self) -> tuple[int, list[ParsedCall]] | None:
        """(characters taken, calls); no calls if it is none; None while it is incomplete."""
        if self._mark == HERMES:
            end = self._buffer.find(HERMES_END, self._num_searched)
            if end < 0:
                self._num_searched = max(0, len(self._buffer) - len(HERMES_END))
                return None
            return end + len(HERMES_END), self._calls_in(self._buffer[:end])
        if self._mark == MISTRAL and self._buffer.lstrip()[:1] not in ("[", "{", ""):
            return self._read_named()
        value_end = self._value.end_of(self._buffer)
        if value_end is None:
            return None
        return value_end, self._calls_in(self._buffer[:value_end])

    def _read_named(self) -> tuple[int, list[ParsedCall]] | None:
        at = self._buffer.find(MISTRAL_ARGS)
        if at < 0:
            return None if len(self._buffer) < 256 else (len(self._buffer), [])
        begin = at + len(MISTRAL_ARGS)
        end = self._value.end_of(self._buffer, begin)
        if end is None:
            return None
        call = {"name": self._buffer[:at].strip(), "arguments": _parsed(self._buffer[begin:end])}
        return end, self._checked([call])

    def _calls_in(self, text: str) -> list[ParsedCall]:
        value = _parsed(text)
        return self._checked(value if isinstance(value, list) else [value])

    def _checked(self, values: list[Any]) -> list[ParsedCall]:
        """All of the values as calls, or none."""
        calls = []
        for value in values:
            name = value.get("name") if isinstance(value, dict) else None
            if not isinstance(name, str) or name not in self._names:
                return []
            arguments = value.get("arguments", value.get("parameters", {}))
            if isinstance(arguments, str):
                arguments = _parsed(arguments)
            if not isinstance(arguments, dict):
                return []
            calls.append(ParsedCall(name, json.dumps(arguments, ensure_ascii=False)))
        return calls


class _JsonScanner:
    """Finds where a JSON object or list ends, looking at every character once."""

    def __init__(self) -> None:
        self._at: int | None = None
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    def end_of(self, text: str, begin: int = 0) -> int | None:
        """The index behind the value that begins at or after `begin`; None if it is not there.

        All of the text if what stands there is no object and no list. To be called with ever
        longer texts.
        """
        if self._at is None:
            self._at = begin
        for index in range(self._at, len(text)):
            character = text[index]
            if self._in_string:
                if self._is_escaped:
                    self._is_escaped = False
                elif character == "\\":
                    self._is_escaped = True
                elif character == '"':
                    self._in_string = False
            elif character == '"' and self._depth:
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]" and self._depth:
                self._depth -= 1
                if self._depth == 0:
                    return index + 1
            elif not self._depth and not character.isspace():
                return len(text)
        self._at = len(text)
        return None


def _parsed(text: str) -> Any:
    """None for what is no JSON, or could not be written as such again: half of a surrogate pair."""
    try:
        value = json.loads(text, parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def held_length(text: str, mark: str) -> int:
    """How much of the end of `text` may begin `mark`."""
    longest = min(len(text), len(mark) - 1)
    return next((n for n in range(longest, 0, -1) if mark.startswith(text[-n:])), 0)
