"""Follows a generation delta by delta and times it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rocmforge.engine.llm import TextStream


@dataclass
class Streamed:
    """What came out of one generation, and how fast."""

    prompt_token_ids: list[int]
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    prefill_s: float = 0.0  # to the first token
    decode_s: float = 0.0  # from the first token to the last

    @property
    def prefill_tokens_per_s(self) -> float | None:
        return len(self.prompt_token_ids) / self.prefill_s if self.prefill_s > 0 else None

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Of the tokens after the first, which belongs to the prompt's time."""
        return (len(self.token_ids) - 1) / self.decode_s if self.decode_s > 0 else None

    def summary(self) -> str:
        parts = [_part("prompt", len(self.prompt_token_ids), self.prefill_tokens_per_s)]
        parts.append(_part("output", len(self.token_ids), self.decode_tokens_per_s))
        return "; ".join([*parts, f"ended by {self.finish_reason}"])


def follow(deltas: TextStream, show: Callable[[str], None] | None) -> Streamed:
    """Takes the deltas as they come, handing their text to `show`."""
    result = Streamed(deltas.prompt_token_ids)
    start = first = last = time.perf_counter()
    for delta in deltas:
        if delta.token_ids:
            last = time.perf_counter()
            first = first if result.token_ids else last
        result.token_ids += delta.token_ids
        result.text += delta.text
        result.finish_reason = delta.finish_reason
        if show is not None and delta.text:
            show(delta.text)
    result.prefill_s, result.decode_s = first - start, last - first
    return result


def _part(name: str, count: int, rate: float | None) -> str:
    speed = "" if rate is None else f", {rate:.1f} tokens/s"
    return f"{name} {count} token{'s' * (count != 1)}{speed}"
