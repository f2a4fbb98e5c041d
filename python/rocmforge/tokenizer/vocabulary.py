"""The vocabulary of a GGUF file: every `tokenizer.ggml.*` array and id read and checked once."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from rocmforge.gguf import Metadata
from rocmforge.tokenizer.special_tokens import CONTROL_TEXTS, end_of_generation

PREFIX: Final = "tokenizer.ggml."

# Tokens an id must address; more would not fit the 32-bit ids of the engine.
MAX_TOKENS: Final = 1 << 24

_BYTE_TOKEN: Final = re.compile("<0x([0-9A-Fa-f]{2})>")


class TokenType(enum.IntEnum):
    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and what the file says of them; ids index `tokens`, `types` and `scores`.

    No two tokens have the same text, except empty ones, which nothing can produce. `types` differs
    from the file's where a text is known to control the model (special_tokens.py).
    """

    metadata: Metadata
    tokens: list[str]
    ids: dict[str, int]
    types: bytes  # of TokenType
    merges: list[str]  # "left right", by rank; empty if this kind of vocabulary has none
    scores: list[float]  # empty if this kind of vocabulary has none
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    eog_ids: frozenset[int]

    def of_type(self, *types: TokenType) -> list[int]:
        """The ids of these types, ascending."""
        values = np.frombuffer(self.types, np.uint8)
        return [int(id) for id in np.flatnonzero(np.isin(values, types))]


@dataclass(frozen=True, slots=True)
class DefaultIds:
    """The ids of a kind of vocabulary where the file names none and that token is special."""

    bos: int | None = None
    eos: int | None = None
    unk: int | None = None


def read_vocabulary(metadata: Metadata, defaults: DefaultIds, *, scored: bool) -> Vocabulary:
    """Raises ModelFileError, naming the key, for whatever does not fit together.

    `scored` says that the kind of vocabulary cannot do without scores.
    """
    tokens = metadata.strings(PREFIX + "tokens")
    if not 0 < len(tokens) <= MAX_TOKENS:
        metadata.fail(PREFIX + "tokens", f"{len(tokens)} tokens are outside of 1 to {MAX_TOKENS}")
    ids = {token: id for id, token in enumerate(tokens) if token}
    if len(ids) + tokens.count("") != len(tokens):
        _fail_duplicate(metadata, tokens)
    types = _types(metadata, len(tokens))
    merges = metadata.strings(PREFIX + "merges") if metadata.count(PREFIX + "merges") else []
    controlling = _controlling(ids, types, merges)
    for id in controlling.values():
        types[id] = TokenType.CONTROL
    scores: list[float] = []
    if scored:
        scores = metadata.floats(PREFIX + "scores").tolist()
        _check_count(metadata, "scores", len(scores), len(tokens))

    def special(name: str, default: int | None = None) -> int | None:
        id = metadata.uint(f"{PREFIX}{name}_token_id", None, maximum=len(tokens) - 1)
        if id is not None:
            return id
        if default is None or default >= len(tokens):
            return None
        known = types[default] in (TokenType.CONTROL, TokenType.UNKNOWN)
        return default if known else None

    # What BERT calls cls and sep are its marks of begin and end; the format misspells the key.
    eos_id = special("eos", special("seperator", defaults.eos))
    eog = {special(name) for name in ("eot", "eom", "fim_pad", "fim_rep", "fim_sep")} | {eos_id}
    return Vocabulary(
        metadata=metadata,
        tokens=tokens,
        ids=ids,
        types=bytes(types),
        merges=merges,
        scores=scores,
        bos_id=special("bos", special("cls", defaults.bos)),
        eos_id=eos_id,
        unk_id=special("unknown", defaults.unk),
        eog_ids=end_of_generation(controlling, {id for id in eog if id is not None}),
    )


def _types(metadata: Metadata, count: int) -> bytearray:
    key = PREFIX + "token_type"
    if metadata.count(key) is None:
        return bytearray([TokenType.NORMAL]) * count
    values = metadata.ints(key, minimum=min(TokenType), maximum=max(TokenType))
    _check_count(metadata, "token_type", len(values), count)
    return bytearray(values.astype(np.uint8).tobytes())


def _controlling(ids: dict[str, int], types: bytearray, merges: list[str]) -> dict[str, int]:
    """The tokens whose text is known to control models, whatever their type.

    Not those that merges spell, if their type is normal too: what text merges into is text, as
    "</s>" is in vocabularies that have seen much HTML.
    """
    known = {text: ids[text] for text in CONTROL_TEXTS if text in ids}
    if any(types[id] == TokenType.NORMAL for id in known.values()):
        spelled = {merge.replace(" ", "", 1) for merge in merges}
        for text in spelled & known.keys():
            if types[known[text]] == TokenType.NORMAL:
                del known[text]
    return known


def _check_count(metadata: Metadata, name: str, count: int, tokens: int) -> None:
    if count != tokens:
        metadata.fail(PREFIX + name, f"{count} elements for {tokens} tokens")


def _fail_duplicate(metadata: Metadata, tokens: list[str]) -> None:
    first: dict[str, int] = {}
    for id, token in enumerate(tokens):
        if token and first.setdefault(token, id) != id:
            message = f"tokens {first[token]} and {id} are both {token!r}"
            metadata.fail(PREFIX + "tokens", message)


def byte_value(metadata: Metadata, token: str) -> int:
    """The byte that a token of type BYTE stands for; its text has the form `<0xNN>`."""
    match = _BYTE_TOKEN.fullmatch(token)
    if match is None:
        metadata.fail(PREFIX + "tokens", f"byte token {token!r} is not of the form <0xNN>")
    return int(match[1], 16)
