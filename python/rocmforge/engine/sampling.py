"""How a request's tokens are to be drawn, and what one step tells the decoder about it.

The order of operations, the same on every device (native/cpu/sample.hpp has it in full):
logit_bias, repetition penalty, presence and frequency penalties, grammar, temperature, top_k,
top_p, min_p, draw.
"""

from __future__ import annotations

import json
import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from rocmforge.engine._sampling import SamplerState, SamplingBatch, SamplingBatchBuilder
from rocmforge.errors import InvalidArgumentError, RocmForgeError

__all__ = ["Grammar", "SamplerState", "SamplingBatch", "SamplingBatchBuilder", "SamplingParams"]

MAX_STOP_STRINGS = 16
MAX_STOP_BYTES = 256
MAX_LOGIT_BIAS_ENTRIES = 1024
MAX_LOGPROBS = 20
MAX_SCHEMA_BYTES = 512 * 1024
MAX_GRAMMAR_BYTES = 256 * 1024
_INT32_MAX = 2**31 - 1


class Grammar(Protocol):
    """Where a request stands in the grammar of its output; rocmforge.engine.grammar has it."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing but the end may follow."""

    @property
    def error(self) -> RocmForgeError | None:
        """Why the grammar has failed, so that no token is allowed any more."""

    def fill_mask(self, words: npt.NDArray[np.uint32], /) -> None:
        """Sets the bits of the tokens that may come next in `words`, which is zeroed."""

    def accept(self, token_id: int, /) -> None:
        """Takes note of an output token; raises `error` where that fails the grammar."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """What to draw and when to stop.

    Raises InvalidArgumentError, naming field, value and limit. Values are kept as plain int,
    float, str, tuple and dict, whatever number or container type they came as.
    """

    max_tokens: int = 128
    temperature: float = 0.8
    """From 0 (the most probable token, the lowest id among equals) to 100."""
    top_k: int = 40
    """Draws among this many most probable tokens; 0 or less: among all."""
    top_p: float = 0.95
    """Draws among the most probable tokens that together reach this share; 1 or more: all."""
    min_p: float = 0.0
    """Drops tokens below this fraction, 0 to 1, of the most probable one's probability."""
    repetition_penalty: float = 1.0
    """From 0.01 to 100; divides positive and multiplies negative logits of all earlier tokens."""
    presence_penalty: float = 0.0
    """From -2 to 2; subtracted from the logits of tokens in the output."""
    frequency_penalty: float = 0.0
    """From -2 to 2; subtracted once for every time the token stands in the output."""
    seed: int | None = None
    """64 bits, signed or unsigned. None: the engine picks one."""
    stop: Sequence[str] = ()
    """Up to 16 strings of up to 256 UTF-8 bytes, or one string; the text ends before them."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of up to 1,024 token ids, from -100 to 100 each."""
    logprobs: int | None = None
    """Log-probabilities of every token drawn and of this many (0 to 20) most probable ones.

    They are the model's: log-softmax of the logits before bias, penalties and temperature.
    """
    ignore_eos: bool = False
    json_schema: str | Mapping[str, Any] | None = None
    """JSON text or mapping of a JSON Schema that the output follows; kept as text, up to 512 KiB.

    At most one of json_schema, regex and grammar may be given.
    """
    regex: str | None = None
    """Up to 256 KiB; the whole output matches it."""
    grammar: str | None = None
    """A Lark grammar, up to 256 KiB, whose language the output belongs to."""

    def __post_init__(self) -> None:
        self._integer("max_tokens", 1, _INT32_MAX)
        self._real("temperature", 0, 100)
        self._integer("top_k", -_INT32_MAX, _INT32_MAX)
        self._real("top_p", 0, math.inf)
        self._real("min_p", 0, 1)
        self._real("repetition_penalty", 0.01, 100)
        self._real("presence_penalty", -2, 2)
        self._real("frequency_penalty", -2, 2)
        if self.seed is not None:
            self._integer("seed", -(2**63), 2**64 - 1)
        self._set("stop", _stop_strings(self.stop))
        self._set("logit_bias", _logit_bias(self.logit_bias))
        if self.logprobs is not None:
            self._integer("logprobs", 0, MAX_LOGPROBS)
        if not isinstance(self.ignore_eos, bool):
            _refuse("ignore_eos", self.ignore_eos, "True or False")
        if isinstance(self.json_schema, Mapping):
            self._set("json_schema", _json_text(self.json_schema))
        _check_text("json_schema", self.json_schema, MAX_SCHEMA_BYTES)
        _check_text("regex", self.regex, MAX_GRAMMAR_BYTES)
        _check_text("grammar", self.grammar, MAX_GRAMMAR_BYTES)
        given = [n for n in ("json_schema", "regex", "grammar") if getattr(self, n) is not None]
        if len(given) > 1:
            msg = f"{' and '.join(given)} exclude each other; give one of them"
            raise InvalidArgumentError(msg)

    @property
    def is_structured(self) -> bool:
        """Whether a grammar decides which tokens are allowed."""
        return not (self.json_schema is None and self.regex is None and self.grammar is None)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _integer(self, name: str, least: int, most: int) -> None:
        self._set(name, _integer(name, getattr(self, name), least, most))

    def _real(self, name: str, least: float, most: float) -> None:
        self._set(name, _real(name, getattr(self, name), least, most))


def _refuse(name: str, value: object, must: str) -> NoReturn:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    msg = f"{name} is {shown}; it must be {must}"
    raise InvalidArgumentError(msg)


def _integer(name: str, value: object, least: int, most: int) -> int:
    must = f"an integer from {least} to {most}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        _refuse(name, value, must)
    number = operator.index(value)
    if not least <= number <= most:
        _refuse(name, value, must)
    return number


def _real(name: str, value: object, least: float, most: float) -> float:
    upper = "up" if most == math.inf else f"to {most}"
    must = f"a finite number from {least} {upper}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        _refuse(name, value, must)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and least <= number <= most):
        _refuse(name, value, must)
    return number


def _stop_strings(stop: object) -> tuple[str, ...]:
    must = f"up to {MAX_STOP_STRINGS} strings"
    if isinstance(stop, str):
        stop = (stop,)
    if not isinstance(stop, Sequence) or isinstance(stop, bytes | bytearray):
        _refuse("stop", stop, must)
    if len(stop) > MAX_STOP_STRINGS:
        msg = f"stop has {len(stop)} entries; it must have {must}"
        raise InvalidArgumentError(msg)
    for i, text in enumerate(stop):
        if not isinstance(text, str) or not text:
            _refuse(f"stop[{i}]", text, "a string that is not empty")
        _check_text(f"stop[{i}]", text, MAX_STOP_BYTES)
    return tuple(stop)


def _logit_bias(bias: object) -> dict[int, float]:
    if not isinstance(bias, Mapping):
        _refuse("logit_bias", bias, "a mapping of token ids to numbers")
    if len(bias) > MAX_LOGIT_BIAS_ENTRIES:
        msg = f"logit_bias has {len(bias)} entries; it must have up to {MAX_LOGIT_BIAS_ENTRIES}"
        raise InvalidArgumentError(msg)
    return {
        _integer("a token id of logit_bias", token_id, 0, _INT32_MAX): _real(
            f"logit_bias[{token_id}]", value, -100, 100
        )
        for token_id, value in bias.items()
    }


def _json_text(schema: Mapping[str, Any]) -> str:
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"json_schema cannot be written as JSON: {error}"
        raise InvalidArgumentError(msg) from None


def _check_text(name: str, text: object, max_bytes: int) -> None:
    if text is None:
        return
    if not isinstance(text, str):
        _refuse(name, text, "a string")
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        msg = f"{name} is not valid Unicode: {error.reason} at character {error.start}"
        raise InvalidArgumentError(msg) from None
    if num_bytes > max_bytes:
        msg = f"{name} has {num_bytes} bytes; the limit is {max_bytes}"
        raise InvalidArgumentError(msg)
