"""What the kinds of vocabulary have in common: text without special tokens <-> token ids."""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

from tokenizers import Tokenizer

from rocmforge.errors import InvalidArgumentError
from rocmforge.tokenizer.vocabulary import DefaultIds, Vocabulary

# Written for a space in the tokens of SentencePiece and of its imitators.
SPACE: Final = "\u2581"


class TextModel(Protocol):
    """Immutable once built, so that any thread may use it.

    `add_bos`, `add_eos`: the marks put around a text unless the file says otherwise.
    `drops_leading_space`: encoding puts a space in front, which decoding takes away again.
    """

    default_ids: ClassVar[DefaultIds]
    scored: ClassVar[bool]  # the kind needs tokenizer.ggml.scores
    add_bos: bool
    add_eos: bool
    drops_leading_space: bool

    def __init__(self, vocabulary: Vocabulary) -> None: ...

    def encode(self, text: str) -> list[int]:
        """The ids of a text that is not empty and holds no lone surrogate."""

    def token_bytes(self, id: int) -> bytes:
        """What a token of plain text adds to the output; pieces of a character included."""


def encode_with(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids `tokenizer` has for `text`, in which it knows no special tokens."""
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    except BaseException as error:
        # A panic of the library passes every `except Exception` on its way: the patterns are
        # written to cause none, but a text must not be able to end the engine.
        if type(error).__name__ != "PanicException":
            raise
        msg = f"a text of {len(text)} characters is more than the tokenizer can split"
        raise InvalidArgumentError(msg) from error
    return ids
