"""Log-probabilities of tokens in the two forms that OpenAI's API has."""

from __future__ import annotations

from typing import Any

from rocmforge.engine.output import TextDelta
from rocmforge.tokenizer import Tokenizer


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
        self._tokenizer = tokenizer
        self._num_top = num_top
        self._offset = offset

    def add(self, delta: TextDelta) -> dict[str, Any]:
        """{"tokens", "token_logprobs", "top_logprobs", "text_offset"}, an entry a token each."""
        columns: dict[str, list[Any]] = {
            name: [] for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        }
        for token_id, found in zip(delta.token_ids, delta.logprobs or [], strict=True):
            text = _text(self._tokenizer, token_id)
            columns["tokens"].append(text)
            columns["token_logprobs"].append(found[token_id])
            top = {_text(self._tokenizer, i): p for i, p in _likeliest(found, self._num_top)}
            columns["top_logprobs"].append(top)
            columns["text_offset"].append(self._offset)
            self._offset += len(text)
        return columns


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
