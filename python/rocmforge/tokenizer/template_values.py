"""The values a caller hands to a chat template: plain JSON-like data, copied and bounded."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rocmforge.errors import InvalidArgumentError
from rocmforge.tokenizer.template_limits import MAX_INT_BITS

MAX_DEPTH = 64
MAX_NODES = 1_000_000

_SCALARS = (str, bool, int, float, type(None))

# Names that decide how a template is found, run or post-processed, or that the template
# language binds itself: a caller who may pass options must not be able to replace them.
RESERVED_NAMES = frozenset(
    {
        "add_special_tokens",
        "caller",
        "chat_template",
        "chat_templates",
        "continue_final_message",
        "conversation",
        "cycler",
        "dict",
        "environment",
        "joiner",
        "jinja_template",
        "kwargs",
        "lipsum",
        "loop",
        "max_length",
        "namespace",
        "padding",
        "parse_special",
        "raise_exception",
        "range",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "self",
        "strftime_now",
        "super",
        "template",
        "tokenize",
        "tokenizer",
        "tokenizer_kwargs",
        "truncation",
        "varargs",
    }
)


def plain_copy(value: Any, name: str) -> tuple[Any, int]:
    """A copy of `value` in str, int, float, bool, None, list and dict, and its size in bytes.

    Raises InvalidArgumentError, naming `name` and the place, for any other type, for keys that
    are not text, and for data nested deeper than 64 or of more than a million values.
    """
    counter = _Counter()
    return counter.copy(value, name, 0), counter.bytes


def check_name(name: str) -> None:
    """Refuses a template variable that is reserved, private or no identifier."""
    if not name.isidentifier() or name.startswith("_"):
        msg = f"template variable {name[:80]!r} is not a public identifier"
        raise InvalidArgumentError(msg)
    if name in RESERVED_NAMES:
        msg = f"template variable {name!r} is reserved; choose another name"
        raise InvalidArgumentError(msg)


class _Counter:
    def __init__(self) -> None:
        self.bytes = 0
        self.nodes = 0

    def copy(self, value: Any, place: str, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            msg = f"{place}: more than {MAX_NODES} values"
            raise InvalidArgumentError(msg)
        if isinstance(value, _SCALARS):
            return self._scalar(value, place)
        if depth >= MAX_DEPTH:
            msg = f"{place[:200]}: nested deeper than {MAX_DEPTH}"
            raise InvalidArgumentError(msg)
        if isinstance(value, Mapping):
            return self._mapping(value, place, depth)
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
            items = [self.copy(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
            self.bytes += sys.getsizeof(items)
            return items
        msg = f"{place}: {type(value).__name__} is not text, a number, a list or a mapping"
        raise InvalidArgumentError(msg)

    def _scalar(self, value: Any, place: str) -> Any:
        if isinstance(value, str):
            value = str(value) if type(value) is not str else value
        elif isinstance(value, int) and not isinstance(value, bool):
            value = int(value)
            if value.bit_length() > MAX_INT_BITS:
                msg = f"{place}: a number of {value.bit_length()} bits; at most {MAX_INT_BITS}"
                raise InvalidArgumentError(msg)
        elif isinstance(value, float):
            value = float(value)
        self.bytes += sys.getsizeof(value)
        return value

    def _mapping(self, value: Mapping[Any, Any], place: str, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                msg = f"{place}: the key {key!r:.80} is not text"
                raise InvalidArgumentError(msg)
            result[str(key)] = self.copy(item, f"{place}.{key:.40}", depth + 1)
            self.bytes += sys.getsizeof(key)
        self.bytes += sys.getsizeof(result)
        return result
