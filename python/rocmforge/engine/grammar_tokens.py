"""A tokenizer's vocabulary in the form that llguidance follows grammars with."""

from __future__ import annotations

from typing import Protocol

from llguidance import LLTokenizer

from rocmforge.errors import UnsupportedError


class TokenBytes(Protocol):
    """What is needed of rocmforge.tokenizer.Tokenizer."""

    vocab_size: int
    special_ids: frozenset[int]
    eog_ids: frozenset[int]
    bos_id: int | None

    def token_bytes(self, id: int, /) -> bytes: ...
    def encode(self, text: str, /) -> list[int]: ...


class _Vocabulary:
    """What LLTokenizer asks of a tokenizer.

    Where a grammar leaves no choice of the text, the mask allows one token alone: the first of
    what calling this object makes of that text.
    """

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: TokenBytes, vocab_size: int, eos_id: int) -> None:
        self._tokenizer = tokenizer
        self.tokens = [
            tokenizer.token_bytes(i) for i in range(min(tokenizer.vocab_size, vocab_size))
        ]
        self.eos_token_id = eos_id
        self.bos_token_id = tokenizer.bos_id
        self.special_token_ids = sorted(tokenizer.special_ids | tokenizer.eog_ids)
        self._ids = {data: i for i, data in enumerate(self.tokens) if data}
        for i in self.special_token_ids:
            self._ids.pop(self.tokens[i] if i < len(self.tokens) else b"", None)
        self._longest = max(map(len, self._ids), default=1)

    def __call__(self, text: str) -> list[int]:
        """The ids of the beginning of `text`, as it is written in the middle of a text.

        The text begins with the last token drawn, so twice the longest token reaches beyond it.
        All of a text of 400 kB would take half a second, each step.
        """
        text = text[: 2 * self._longest + 64]
        wanted = text.encode()
        # Some vocabularies begin every text with a space. A line feed keeps it away from `text`.
        for start in ("", "\n"):
            ids = self._tokenizer.encode(start + text)
            pieces = [self._tokenizer.token_bytes(i) for i in ids]
            while sum(map(len, pieces)) > len(wanted):
                del ids[0], pieces[0]
            if b"".join(pieces) == wanted:
                return ids
        return self._longest_matches(wanted)

    def _longest_matches(self, data: bytes) -> list[int]:
        ids: list[int] = []
        at = 0
        while at < len(data):
            for length in range(self._longest, 0, -1):
                id = self._ids.get(data[at : at + length])
                if id is not None:
                    break
            else:
                return ids  # no token begins so, which the mask then tells
            ids.append(id)
            at += len(self.tokens[id])
        return ids


def grammar_tokens(tokenizer: TokenBytes, vocab_size: int) -> LLTokenizer:
    """The vocabulary for logits `vocab_size` wide, as llguidance wants it.

    Raises UnsupportedError if it has no end token.
    """
    ends = sorted(id for id in tokenizer.eog_ids if id < vocab_size)
    if not ends:
        msg = "the vocabulary has no end token, so that no grammar can end its output"
        raise UnsupportedError(msg)
    vocabulary = _Vocabulary(tokenizer, vocab_size, ends[0])
    return LLTokenizer(vocabulary, eos_token=ends)  # type: ignore[arg-type]
