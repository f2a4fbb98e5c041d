"""Byte-level BPE (`gpt2`): merges by rank over the bytes of pre-tokenized text."""

from __future__ import annotations

import contextlib
from typing import ClassVar, Final

from tokenizers import Tokenizer, models

from rocmforge.errors import UnsupportedError
from rocmforge.tokenizer import pre_tokenizer_table
from rocmforge.tokenizer.pre_tokenizer_table import PreTokenizer
from rocmforge.tokenizer.text_model import encode_with
from rocmforge.tokenizer.vocabulary import PREFIX, DefaultIds, TokenType, Vocabulary

# Tokens write byte b as the b-th character here: itself where it is printable and not a space,
# else the next of U+0100 onwards (OpenAI's GPT-2, bytes_to_unicode).
_PRINTABLE: Final = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS: Final = tuple(b for b in range(256) if b not in _PRINTABLE)
_BYTE_OF: Final = {b: b for b in _PRINTABLE} | {0x100 + i: b for i, b in enumerate(_OTHERS)}
_CHARACTERS: Final = frozenset(map(chr, _BYTE_OF))


class ByteLevelBPE:
    default_ids: ClassVar = DefaultIds()
    scored: ClassVar = False
    add_eos = False
    drops_leading_space = False

    def __init__(self, vocabulary: Vocabulary) -> None:
        entry = _find_pre_tokenizer(vocabulary)
        self.add_bos = entry.add_bos
        self._tokens = vocabulary.tokens
        self._types = vocabulary.types
        self._tokenizer = Tokenizer(_build_model(vocabulary, entry))
        self._tokenizer.pre_tokenizer = pre_tokenizer_table.build(entry)

    def encode(self, text: str) -> list[int]:
        return encode_with(self._tokenizer, text)

    def token_bytes(self, id: int) -> bytes:
        token = self._tokens[id]
        if self._types[id] == TokenType.NORMAL and _CHARACTERS.issuperset(token):
            return token.translate(_BYTE_OF).encode("latin-1")
        return token.encode()


def _find_pre_tokenizer(vocabulary: Vocabulary) -> PreTokenizer:
    """The file's pre-tokenizer. One that it does not name cannot be told from its vocabulary."""
    name = vocabulary.metadata.string(PREFIX + "pre", None)
    if name is None:
        msg = (
            f"the file has no {PREFIX}pre to name its pre-tokenizer, as files from before May 2024,"
            f" and no other key tells it: set it to one of {', '.join(pre_tokenizer_table.known())}"
        )
        raise UnsupportedError(msg)
    return pre_tokenizer_table.find(name)


def _build_model(vocabulary: Vocabulary, entry: PreTokenizer) -> models.BPE:
    """Leaves out control tokens: no text may merge into one."""
    metadata = vocabulary.metadata
    key = PREFIX + "merges"
    if metadata.count(key) is None:
        metadata.fail(key, "a byte-level BPE vocabulary needs merges")
    if len(set(vocabulary.merges)) != len(vocabulary.merges):
        metadata.fail(key, "a merge is listed twice")
    vocab = vocabulary.ids.copy()
    for id in vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN):
        vocab.pop(vocabulary.tokens[id], None)
    merges = [line.partition(" ")[::2] for line in vocabulary.merges]
    # The library refuses parts that are not in `vocab`, but panics where their union is not.
    if all(map(vocab.__contains__, map("".join, merges))):
        with contextlib.suppress(Exception):  # the only type it has
            return models.BPE(vocab, merges, ignore_merges=entry.ignore_merges)
    merges = _mergeable(vocabulary, merges, vocab)
    return models.BPE(vocab, merges, ignore_merges=entry.ignore_merges)


def _mergeable(
    vocabulary: Vocabulary, merges: list[tuple[str, str]], vocab: dict[str, int]
) -> list[tuple[str, str]]:
    """The merges without those of control tokens; ModelFileError for one not made of tokens."""
    kept: list[tuple[str, str]] = []
    for index, (left, right) in enumerate(merges):  # a side is empty where no space was
        for part in (left, right, left + right):
            if not part or part not in vocabulary.ids:
                message = f"merge {index} ({left!r}, {right!r}) needs {part!r}, which is no token"
                vocabulary.metadata.fail(PREFIX + "merges", message)
        if left in vocab and right in vocab and left + right in vocab:
            kept.append((left, right))
    return kept
