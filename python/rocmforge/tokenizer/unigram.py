"""SentencePiece unigram (`t5`): the most probable segmentation, found by Viterbi."""

from __future__ import annotations

from typing import ClassVar, Final

from tokenizers import Tokenizer, models

from rocmforge.tokenizer.charsmap import CharacterMap
from rocmforge.tokenizer.text_model import SPACE, encode_with
from rocmforge.tokenizer.vocabulary import PREFIX, DefaultIds, TokenType, Vocabulary

# The text of the unknown piece: no normalized text holds a space, so that nothing spells it.
_UNKNOWN: Final = " "


class Unigram:
    """Normal and user-defined tokens segment the text; what they do not cover is unknown."""

    default_ids: ClassVar = DefaultIds(eos=1, unk=2)
    scored: ClassVar = True
    add_bos = False
    add_eos = True

    def __init__(self, vocabulary: Vocabulary) -> None:
        metadata = vocabulary.metadata
        if vocabulary.unk_id is None:
            metadata.fail(PREFIX + "unknown_token_id", "a unigram vocabulary needs one")
        self._tokens = vocabulary.tokens
        self._types = vocabulary.types
        self._characters = CharacterMap.from_metadata(metadata)
        self._adds_space = metadata.bool(PREFIX + "add_space_prefix", False)
        self._merges_spaces = metadata.bool(PREFIX + "remove_extra_whitespaces", False)
        self.drops_leading_space = self._adds_space or self._merges_spaces
        self._ids, pieces = _pieces(vocabulary, vocabulary.unk_id)
        self._tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))

    def encode(self, text: str) -> list[int]:
        text = self._normalized(text)
        return [self._ids[index] for index in encode_with(self._tokenizer, text)] if text else []

    def token_bytes(self, id: int) -> bytes:
        token = self._tokens[id]
        if self._types[id] == TokenType.NORMAL:
            token = token.replace(SPACE, " ")
        return token.encode()

    def _normalized(self, text: str) -> str:
        if self._characters is not None:
            text = self._characters.apply(text)
        if self._merges_spaces:
            return "".join(SPACE + word for word in text.split(" ") if word)
        content = text.lstrip(" ")
        if self._adds_space and content:
            text = text[: len(text) - len(content)] + " " + content
        return text.replace(" ", SPACE)


def _pieces(vocabulary: Vocabulary, unk_id: int) -> tuple[list[int], list[tuple[str, float]]]:
    """The pieces, the unknown one first, and the ids of them.

    No piece scores below the normal ones, as the library takes the unknown score from the lowest.
    """
    ids = [unk_id]
    pieces = [(_UNKNOWN, 0.0)]
    rows = zip(vocabulary.tokens, vocabulary.scores, vocabulary.types, strict=True)
    for id, (token, score, type_) in enumerate(rows):
        if token and type_ == TokenType.NORMAL:
            pieces.append((token, score))
            ids.append(id)
        elif token and type_ == TokenType.USER_DEFINED:
            pieces.append((token, 0.0))
            ids.append(id)
    return ids, pieces
