"""What a model's answer consists of: reasoning, text for the reader, calls of tools.

The same parser reads streams and whole answers, piece by piece, so the pieces of a stream put
together are the whole. Nothing is given out that may yet turn out to belong to a mark.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from rocmforge.server.tool_calls import MAX_SPACE, ParsedCall, ToolCallParser, held_length

_THINK = "<think>"
_THINK_END = "</think>"


@dataclass(slots=True)
class Piece:
    """An addition to an answer."""

    content: str = ""
    reasoning: str = ""
    calls: list[ParsedCall] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.calls)


class ContentParser(Protocol):
    def push(self, text: str) -> Piece: ...
    def finish(self) -> Piece: ...


class PlainContent:
    """Text is text."""

    def push(self, text: str) -> Piece:
        return Piece(content=text)

    def finish(self) -> Piece:
        return Piece()


class ToolContent:
    """Text in which the model may call tools, in whatever form it has learned."""

    def __init__(self, names: frozenset[str]) -> None:
        self._parser = ToolCallParser(names)

    def push(self, text: str) -> Piece:
        content, calls = self._parser.push(text)
        return Piece(content=content, calls=calls)

    def finish(self) -> Piece:
        content, calls = self._parser.finish()
        return Piece(content=content, calls=calls)


class ArgumentsContent:
    """All of the text is the arguments of one call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._parts: list[str] = []

    def push(self, text: str) -> Piece:
        self._parts.append(text)
        return Piece()

    def finish(self) -> Piece:
        return Piece(calls=[ParsedCall(self._name, "".join(self._parts))])


class ChatParser:
    """Reasoning stands first, between <think> and </think>; the rest is up to `content`.

    With `is_thinking` the prompt has ended with <think> already.
    """

    def __init__(self, content: ContentParser, *, may_think: bool, is_thinking: bool) -> None:
        self._content = content
        self._may_think = may_think and not is_thinking
        self._is_thinking = is_thinking
        self._skips_space = is_thinking
        self._held = ""

    def push(self, text: str) -> Piece:
        text = self._held + text
        self._held = ""
        if self._may_think:
            begin = text.lstrip()
            has_bounded_space = len(text) - len(begin) <= MAX_SPACE
            if has_bounded_space and _THINK.startswith(begin) and begin != _THINK:
                self._held = text
                return Piece()
            self._may_think = False
            if has_bounded_space and begin.startswith(_THINK):
                self._is_thinking = self._skips_space = True
                text = begin[len(_THINK) :]
        if not self._is_thinking:
            return self._push_content(text)
        return self._push_reasoning(text)

    def finish(self) -> Piece:
        held, self._held = self._held, ""
        if self._is_thinking:
            return Piece(reasoning=_without_end_space(held))
        piece = self._content.push(held)
        rest = self._content.finish()
        return Piece(piece.content + rest.content, "", piece.calls + rest.calls)

    def _push_reasoning(self, text: str) -> Piece:
        if self._skips_space:
            text = text.lstrip()
            self._skips_space = not text
        reasoning, mark, after = text.partition(_THINK_END)
        if mark:
            self._is_thinking = False
            self._skips_space = True
            piece = self._push_content(after)
            piece.reasoning = _without_end_space(reasoning)
            return piece
        num_held = held_length(text, _THINK_END)
        # White space before the closing mark belongs to the mark.
        kept = _without_end_space(text[: len(text) - num_held])
        self._held = text[len(kept) :]
        return Piece(reasoning=kept)

    def _push_content(self, text: str) -> Piece:
        if self._skips_space:
            text = text.lstrip()
            self._skips_space = not text
        return self._content.push(text) if text else Piece()


def _without_end_space(text: str) -> str:
    return text[: max(len(text.rstrip()), len(text) - MAX_SPACE)]
