"""Cuts a text at the special tokens that are spelled out in it."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, models

from rocmforge.errors import InvalidArgumentError


class SpecialSplitter:
    """Finds tokens by their text: of those that start leftmost, the longest. Linear in the text."""

    def __init__(self, ids: dict[str, int]) -> None:
        """`ids`: text -> token id."""
        # The library matches added tokens with an automaton. What lies between them is one
        # unknown word to this tokenizer, which is told apart by its id, 0.
        self._tokenizer = Tokenizer(models.WordLevel({"": 0}, unk_token=""))
        self._tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ids])
        self._ids = [-1, *ids.values()]

    def split(self, text: str) -> list[str | int]:
        """Special tokens as ids, the text between them as it is, in order, no part empty.

        The text has passed check_text().
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return [
            self._ids[id] if id else text[start:end]
            for id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        ]


def check_text(text: str) -> None:
    """Raises InvalidArgumentError for a lone surrogate, which has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        msg = f"character {error.start} of the text is a lone surrogate, U+{code:04X}"
        raise InvalidArgumentError(msg) from None
