"""Keeps the text of messages from becoming control tokens of the rendered chat template.

A template mixes its own control tokens with what users wrote, and the result is one string. So a
mark is put inside every control token that a message spells, which hides it from the parser of
special tokens, and is taken out again before the text is encoded. The mark is a Unicode
noncharacter that occurs in none of the messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

from rocmforge.errors import InvalidArgumentError
from rocmforge.tokenizer.special_splitter import SpecialSplitter, check_text

_NONCHARACTERS: Final = tuple(map(chr, range(0xFDD0, 0xFDF0)))


@final
class ChatGuard:
    """For one rendering of `values`: lists, mappings and texts, as templates get them.

    `splitter` finds the control tokens, which have two letters or more. Raises
    InvalidArgumentError for texts that use up all noncharacters or have a lone surrogate.
    """

    def __init__(self, values: Any, splitter: SpecialSplitter, tokens: list[str]) -> None:
        used = _noncharacters_in(values)
        self._mark = next((mark for mark in _NONCHARACTERS if mark not in used), "")
        if not self._mark:
            msg = "the messages hold every noncharacter from U+FDD0 to U+FDEF; remove one"
            raise InvalidArgumentError(msg)
        self._splitter = splitter
        self._tokens = tokens

    def hide(self, value: Any) -> Any:
        """A copy of `value` whose texts spell no control token."""
        if isinstance(value, str):
            return self._hide_text(value)
        if isinstance(value, Mapping):
            return {self.hide(key): self.hide(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(item) for item in value]
        return value

    def reveal(self, text: str) -> str:
        """The text as its author wrote it."""
        return text.replace(self._mark, "")

    def _hide_text(self, text: str) -> str:
        check_text(text)
        while True:  # Marking a token can leave one that overlapped with it.
            parts = self._splitter.split(text)
            if all(isinstance(part, str) for part in parts):
                return text
            text = "".join(
                part if isinstance(part, str) else self._marked(self._tokens[part])
                for part in parts
            )

    def _marked(self, token: str) -> str:
        return token[0] + self._mark + token[1:]


def _noncharacters_in(value: Any) -> set[str]:
    if isinstance(value, str):
        return {mark for mark in _NONCHARACTERS if mark in value}
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        return set().union(*(_noncharacters_in(item) for item in value))
    return set()
