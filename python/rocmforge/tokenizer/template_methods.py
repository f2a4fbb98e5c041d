"""The methods of text, lists and mappings that a template may call, and what each may cost.

A method that is not listed here does not exist for templates. Entries of the tables check
the arguments before the method runs; `None` means that it is cheap whatever it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from markupsafe import Markup

from rocmforge.tokenizer.template_limits import (
    KIB,
    MAX_ITEMS,
    ForbiddenOperationError,
    Meter,
    RenderLimitError,
)

Check = Callable[..., None] | None

MAX_FIELD_WIDTH = 9_999
MAX_STRIP_CHARS = 256
# Searching from the right compares every position in the worst case.
MAX_REVERSE_SEARCH = 50_000_000
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def _linear(meter: Meter, text: str, *_args: Any, **_names: Any) -> None:
    meter.charge(3 * len(text) // KIB)


def _grows(meter: Meter, text: str, *_args: Any, **_names: Any) -> None:
    """Case mapping makes up to three characters of one."""
    meter.check_text(3 * len(text))
    meter.charge(len(text) // 64)


def _padded(meter: Meter, text: str, width: Any = 0, *_args: Any) -> None:
    meter.check_text(max(len(text), width if isinstance(width, int) else 0))


def _expanded(meter: Meter, text: str, tabsize: Any = 8) -> None:
    meter.check_text(len(text) + text.count("\t") * max(0, int(tabsize)))


def check_replace(meter: Meter, text: str, old: Any, new: Any, count: Any = -1) -> None:
    if isinstance(old, str) and isinstance(new, str):
        found = text.count(old)
        found = min(found, count) if isinstance(count, int) and count >= 0 else found
        # Markup escapes what it is given: at most 5 characters for one.
        factor = 5 if isinstance(text, Markup) else 1
        meter.check_text(len(text) + found * factor * len(new))


def check_strip(meter: Meter, text: str, chars: Any = None) -> None:
    if isinstance(chars, str) and len(chars) > MAX_STRIP_CHARS:
        msg = f"strip() of {len(chars)} characters; the limit is {MAX_STRIP_CHARS}"
        raise RenderLimitError(msg)
    meter.charge(len(text) // 64)


def _split(meter: Meter, text: str, sep: Any = None, maxsplit: Any = -1) -> None:
    if isinstance(sep, str) and sep:
        meter.check_items(text.count(sep) + 1)
    elif not isinstance(maxsplit, int) or not 0 <= maxsplit <= MAX_ITEMS:
        meter.check_items(len(text.split(None, MAX_ITEMS + 1)))
    meter.charge(len(text) // 64)


def _split_right(meter: Meter, text: str, sep: Any = None, maxsplit: Any = -1) -> None:
    _search_right(meter, text, sep)
    _split(meter, text, sep, maxsplit)


def _search_right(meter: Meter, text: str, sub: Any, *_args: Any) -> None:
    if isinstance(sub, str) and len(sub) * len(text) > MAX_REVERSE_SEARCH:
        msg = f"search from the right for {len(sub)} characters in {len(text)} is too long"
        raise RenderLimitError(msg)
    meter.charge(len(text) // KIB)


def _split_lines(meter: Meter, text: str, *_args: Any, **_names: Any) -> None:
    meter.check_items(1 + sum(text.count(end) for end in _LINE_ENDS))
    meter.charge(len(text) // 64)


def check_join(meter: Meter, separator: str, values: Any) -> None:
    """`values` is a list or a string here: the caller has computed lazy ones."""
    count = len(values)
    factor = 5 if isinstance(separator, Markup) else 1
    total = sum(len(value) for value in values if isinstance(value, str))
    meter.charge(count // 4)
    meter.check_text(factor * total + max(0, count - 1) * len(separator))


def _walk(meter: Meter, value: Any, *_args: Any, **_names: Any) -> None:
    meter.charge(meter.weigh(value) // KIB)


TEXT_METHODS: dict[str, Check] = {
    **dict.fromkeys(("capitalize", "casefold", "lower", "swapcase", "title", "upper"), _grows),
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _padded),
    **dict.fromkeys(("count", "find", "index", "partition", "startswith", "endswith"), _linear),
    **dict.fromkeys(("removeprefix", "removesuffix"), _linear),
    **dict.fromkeys(("isalnum", "isalpha", "isascii", "isdecimal", "isdigit"), _linear),
    **dict.fromkeys(("isidentifier", "islower", "isnumeric", "isprintable"), _linear),
    **dict.fromkeys(("isspace", "istitle", "isupper"), _linear),
    **dict.fromkeys(("rfind", "rindex", "rpartition"), _search_right),
    **dict.fromkeys(("strip", "lstrip", "rstrip"), check_strip),
    "expandtabs": _expanded,
    "replace": check_replace,
    "split": _split,
    "rsplit": _split_right,
    "splitlines": _split_lines,
    "join": None,  # checked by call_text_method, which computes a lazy argument first
    "format": None,  # replaced by format_text
}

METHODS: dict[type, dict[str, Check]] = {
    str: TEXT_METHODS,
    Markup: {name: check for name, check in TEXT_METHODS.items() if name != "format"},
    list: {"count": _walk, "index": _walk, "copy": _walk},
    tuple: {"count": _walk, "index": _walk},
    dict: {"get": None, "items": None, "keys": None, "values": None, "copy": _walk},
    range: {"count": lambda meter, value, *_: meter.charge(len(value) // 64), "index": None},
    float: {"is_integer": None},
    int: {"bit_length": None},
    bool: {},
    type(None): {},
}


def call_method(meter: Meter, method: Any, args: tuple[Any, ...], names: dict[str, Any]) -> Any:
    """Calls a bound method of a built-in value after checking its arguments.

    The environment gives out the methods of METHODS alone, so this is one of them.
    """
    owner, name = method.__self__, method.__name__
    if isinstance(owner, str):
        if name == "format":
            return meter.made(format_text(meter, owner, args, names))
        if name == "join" and len(args) == 1:
            values = args[0] if isinstance(args[0], (str, list, tuple)) else None
            args = (meter.materialize(args[0]) if values is None else values,)
            check_join(meter, owner, args[0])
    check = METHODS[type(owner)][name]
    if check is not None:
        check(meter, owner, *args, **names)
    return meter.made(method(*args, **names))


def check_width(digits: str) -> None:
    if digits == "*" or (digits and int(digits[:6]) > MAX_FIELD_WIDTH):
        msg = f"a format with the width {digits[:20]}; the limit is {MAX_FIELD_WIDTH}"
        raise RenderLimitError(msg)


class _FieldFormatter(Formatter):
    """`str.format` without attribute and index access, and with bounded widths."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._chars = 0

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        if "." in field_name or "[" in field_name:
            msg = f"the format field {field_name[:80]!r} reaches into a value"
            raise ForbiddenOperationError(msg)
        return super().get_field(field_name, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> str:
        digits = ""
        for char in [*format_spec, ""]:
            if char.isdigit():
                digits += char
            else:
                check_width(digits)
                digits = ""
        if not isinstance(value, (str, int, float)):
            self._meter.charge(self._meter.weigh_printed(value) // 16)
        text = str(super().format_field(value, format_spec))
        self._chars += len(text)
        self._meter.check_text(self._chars)
        return text


def format_text(meter: Meter, text: str, args: tuple[Any, ...], names: Mapping[str, Any]) -> str:
    meter.charge(len(text) // 8)
    return _FieldFormatter(meter).vformat(text, args, names)


def _after_name(text: str, position: int) -> int:
    """The position after the `(name)` of a field, whose brackets may nest."""
    depth = 0
    while position < len(text):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        position += 1
        if depth == 0:
            break
    return position


def check_percent(meter: Meter, text: str, values: Any) -> None:
    """Bounds `text % values`: no `*`, no width over 9,999, and the size of the result."""
    meter.charge(len(text) // 4)
    fields = widths = 0
    position = text.find("%")
    while position >= 0:
        position += 1
        if text[position : position + 1] == "(":
            position = _after_name(text, position)
        end = position
        while end < len(text) and text[end] in "#0- +123456789.*":
            end += 1
        for part in text[position:end].lstrip("#0- +").split("."):
            digits = part.strip("#- +")
            check_width("*" if "*" in digits else digits)
            widths += int(digits or 0)
        fields += 1
        position = text.find("%", end + 1)
    parts = values if isinstance(values, tuple) else (values,)
    meter.check_text(len(text) + widths + fields * max(map(meter.weigh_printed, parts), default=0))
