"""Log-probabilities of tokens in the two forms that OpenAI's API has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rocmforge.engine.output import TextDelta
from rocmforge.tokenizer import IncrementalDetokenizer, Tokenizer


def chat_logprobs(tokenizer: Tokenizer, delta: TextDelta, num_top: int) -> dict[str, Any]:
    """{"content": [...]}, an entry a token."""
    return {
        "content": [
            {
                **_entry(tokenizer, token_id, found[token_id]),
                "top_logprobs": [_entry(tokenizer, i, p) for i, p in _likeliest(found, num_top)],
            }
            for token_id, found in zip(delta.token_ids, delta.logprobs or [], strict=True)
        ]
    }


class CompletionLogprobs:
    """Of one choice; knows how much text has passed."""

    def __init__(self, tokenizer: Tokenizer, num_top: int, offset: int) -> None:
        """`offset` is the length of the text before the first token that is added."""
        self._tokenizer = tokenizer
        self._num_top = num_top
        self._offset = offset

    def of_prompt(
        self, token_ids: Sequence[int], logprobs: Sequence[dict[int, float] | None]
    ) -> dict[str, list[Any]]:
        """As add() of the prompt's tokens, from the beginning of its text.

        Nothing is known of the first token, and control tokens take no place in the text.
        """
        columns, written = _columns(), IncrementalDetokenizer(self._tokenizer)
        offset = 0
        for token_id, found in zip(token_ids, logprobs, strict=True):
            self._append(columns, token_id, found, offset)
            offset += len(written.push([token_id]))
        return columns

    def add(self, delta: TextDelta) -> dict[str, list[Any]]:
        """{"tokens", "token_logprobs", "top_logprobs", "text_offset"}, an entry a token each."""
        columns = _columns()
        for token_id, found in zip(delta.token_ids, delta.logprobs or [], strict=True):
            self._append(columns, token_id, found, self._offset)
            self._offset += len(columns["tokens"][-1])
        return columns

    def _append(
        self,
        columns: dict[str, list[Any]],
        token_id: int,
        found: dict[int, float] | None,
        offset: int,
    ) -> None:
        columns["tokens"].append(_text(self._tokenizer, token_id))
        columns["text_offset"].append(offset)
        if found is None:
            columns["token_logprobs"].append(None)
            columns["top_logprobs"].append(None)
            return
        columns["token_logprobs"].append(found[token_id])
        top = {_text(self._tokenizer, i): p for i, p in _likeliest(found, self._num_top)}
        columns["top_logprobs"].append(top)


def _columns() -> dict[str, list[Any]]:
    return {name: [] for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}


def _likeliest(found: dict[int, float], num_top: int) -> list[tuple[int, float]]:
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:num_top]


def _entry(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    data = _bytes(tokenizer, token_id)
    return {"token": data.decode(errors="replace"), "logprob": logprob, "bytes": list(data)}


def _text(tokenizer: Tokenizer, token_id: int) -> str:
    return _bytes(tokenizer, token_id).decode(errors="replace")


def _bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    """Nothing for ids that pad the logits to a round width."""
    return tokenizer.token_bytes(token_id) if token_id < tokenizer.vocab_size else b""
