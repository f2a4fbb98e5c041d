"""Text from token ids as they come, complete characters only, ended by stop strings."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from rocmforge.errors import InvalidArgumentError
from rocmforge.tokenizer.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """The deltas, put together, are `tokenizer.decode` of all ids, cut before the first stop.

    The first stop is the one that ends first, of those the longest; its text is never given out,
    nor is text that may yet turn out to begin one. The cost of a token depends on its length and
    on the number of stops only.

    `prompt_ids` are what the ids continue. A tokenizer that puts a space before a text drops the
    one of the first token only if the prompt has no text itself. `shown_ids` are control tokens
    that are spelled out, whatever `skip_special` says.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        skip_special: bool = True,
        prompt_ids: Iterable[int] = (),
        shown_ids: frozenset[int] = frozenset(),
    ) -> None:
        if isinstance(stop, str) or not all(stop):
            msg = f"stop is {stop!r}, not a sequence of strings of at least one character"
            raise InvalidArgumentError(msg)
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._shown_ids = shown_ids
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._drops_space = tokenizer.drops_leading_space and not any(
            tokenizer.output_bytes(id, skip_special) for id in prompt_ids
        )
        self._matchers = [_StopMatcher(text) for text in stop]
        self._held = ""
        self.stopped: str | None = None

    def push(self, ids: Iterable[int]) -> str:
        """The text that the ids make certain; empty once a stop has been met."""
        skip, shown = self._skip_special, self._shown_ids
        data = b"".join(self._tokenizer.output_bytes(i, skip and i not in shown) for i in ids)
        if self._drops_space and data:
            data = data.removeprefix(b" ")
            self._drops_space = False
        return self._advance(self._decoder.decode(data))

    def finish(self) -> str:
        """The rest: what was held back, and U+FFFD for a character that never got complete."""
        text = self._advance(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _advance(self, text: str) -> str:
        """Adds text; returns what no stop can claim any more."""
        if self.stopped is not None:
            return ""
        for index, character in enumerate(text):
            met = [matcher.text for matcher in self._matchers if matcher.step(character)]
            if met:
                self.stopped = max(met, key=len)
                known = self._held + text[: index + 1]
                self._held = ""
                return known[: len(known) - len(self.stopped)]
        known = self._held + text
        held = max((matcher.matched for matcher in self._matchers), default=0)
        self._held = known[len(known) - held :]
        return known[: len(known) - held]


class _StopMatcher:
    """Knuth-Morris-Pratt: `matched` is how much of `text` the characters so far end with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        # _borders[i]: the longest proper prefix of text[:i + 1] that is also its suffix.
        self._borders = [0]
        border = 0
        for character in text[1:]:
            border = self._extend(border, character)
            self._borders.append(border)

    def step(self, character: str) -> bool:
        """Whether the text is complete with this character."""
        self.matched = self._extend(self.matched, character)
        return self.matched == len(self.text)

    def _extend(self, matched: int, character: str) -> int:
        while matched and self.text[matched] != character:
            matched = self._borders[matched - 1]
        return matched + 1 if self.text[matched] == character else 0
