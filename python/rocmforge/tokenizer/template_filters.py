"""jinja2's filters and tests under the meter, with transformers' `tojson`.

Missing on purpose: `attr` (reflection), `urlize`, `xmlattr` and `pprint` (nothing a prompt
needs, and slow on long text). An unknown filter is an error of the template.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from jinja2.filters import FILTERS
from jinja2.runtime import Undefined
from jinja2.tests import TESTS

from rocmforge.tokenizer import template_methods as methods
from rocmforge.tokenizer.template_limits import (
    KIB,
    MAX_PRINTED_WEIGHT,
    Meter,
    RenderLimitError,
)
from rocmforge.tokenizer.template_syntax import BUILT, CONCAT, COST, SLICE, TICK

MAX_NUMBER_CHARS = 4_096
MAX_ROUND_DIGITS = 300
MAX_INDENT = 64


def text_of(meter: Meter, value: Any) -> str:
    """What `{{ value }}` prints."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str(value)
    weight = meter.weigh_printed(value)
    if weight > MAX_PRINTED_WEIGHT:
        msg = f"the template prints a value of {weight} bytes; the limit is {MAX_PRINTED_WEIGHT}"
        raise RenderLimitError(msg)
    meter.charge(weight // 16)
    return str(meter.made(str(value)))


def to_json(
    x: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """transformers' override: no HTML escaping, and non-ASCII characters as they are."""
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _check_json(
    meter: Meter,
    x: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> None:
    del ensure_ascii, sort_keys
    weight = meter.weigh_printed(x)
    widths = [len(part) for part in separators or () if isinstance(part, str)]
    widths.append(indent if isinstance(indent, int) else len(indent or ""))
    if weight > MAX_PRINTED_WEIGHT or max(widths) > MAX_INDENT:
        msg = f"tojson of a value of {weight} bytes, spacing {max(widths)}; the limits are "
        raise RenderLimitError(msg + f"{MAX_PRINTED_WEIGHT} and {MAX_INDENT}")
    meter.charge(weight // (16 if indent is None else 4))


def _text(slowness: int) -> Callable[..., None]:
    """A filter over text that costs `slowness` steps per KiB and at most grows it sixfold."""

    def check(meter: Meter, value: Any, *_args: Any, **_names: Any) -> None:
        chars = len(value) if isinstance(value, str) else meter.weigh(value)
        meter.check_text(6 * chars)
        meter.charge(chars * slowness // KIB)

    return check


def _sized(position: int, name: str) -> Callable[..., None]:
    """A filter whose result has as many characters or items as one of its arguments says."""

    def check(meter: Meter, value: Any, *args: Any, **names: Any) -> None:
        size = names.get(name, args[position] if len(args) > position else 0)
        meter.check_items(int(size) if isinstance(size, (int, float)) else 0)
        _walk(meter, value)

    return check


def _walk(meter: Meter, value: Any, *_args: Any, **_names: Any) -> None:
    if isinstance(value, str):
        meter.check_items(len(value))
    elif not isinstance(value, Undefined):
        meter.charge(meter.weigh(value) // KIB)
        meter.check_items(len(value) if hasattr(value, "__len__") else 0)


def _sort(meter: Meter, value: Any, *args: Any, **names: Any) -> None:
    """Comparisons walk over equal beginnings; keys are looked up, and lowered, once an item."""
    count = len(value) if hasattr(value, "__len__") else 0
    keys = sum(len(text) for text in (*args, *names.values()) if isinstance(text, str))
    _walk(meter, value)
    meter.charge(count * count.bit_length() // 2 + count * keys // 4)
    meter.charge(meter.weigh(value) * count.bit_length() // KIB)


def _sum(meter: Meter, value: Any, attribute: Any = None, start: Any = 0) -> None:
    """A sum of lists copies what it has so far with every item."""
    del attribute
    _walk(meter, value)
    if not isinstance(start, (int, float)):
        meter.charge(len(value) * (meter.weigh(value) + meter.weigh(start)) // (16 * KIB))


def _replace(meter: Meter, text: Any, old: Any, new: Any, count: Any = None) -> None:
    limit = -1 if count is None else count
    methods.check_replace(meter, text_of(meter, text), text_of(meter, old), str(new), limit)


def _indent(meter: Meter, text: Any, width: Any = 4, *_args: Any, **_names: Any) -> None:
    methods.TEXT_METHODS["splitlines"](meter, text)  # type: ignore[misc]
    columns = len(width) if isinstance(width, str) else int(width)
    lines = 2 + sum(text.count(end) for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
    meter.check_text(len(text) + lines * max(0, columns))


def _center(meter: Meter, text: Any, width: Any = 80) -> None:
    meter.check_text(max(len(text_of(meter, text)), width))


def _join(meter: Meter, values: Any, d: Any = "", attribute: Any = None) -> None:
    _walk(meter, values)
    del attribute
    meter.check_text(meter.weigh_printed(values) + len(values) * len(text_of(meter, d)))


def _number(meter: Meter, value: Any, *_args: Any, **_names: Any) -> None:
    if isinstance(value, str) and len(value) > MAX_NUMBER_CHARS:
        msg = f"a number of {len(value)} characters; the limit is {MAX_NUMBER_CHARS}"
        raise RenderLimitError(msg)
    meter.tick(4)


def _round(meter: Meter, value: Any, precision: Any = 0, *_args: Any) -> None:
    if abs(precision) > MAX_ROUND_DIGITS:
        msg = f"round to {precision} digits; the limit is {MAX_ROUND_DIGITS}"
        raise RenderLimitError(msg)
    _number(meter, value)


def _format(meter: Meter, text: Any, *args: Any, **names: Any) -> None:
    methods.check_percent(meter, text_of(meter, text), args or tuple(names.values()))


def _trim(meter: Meter, text: Any, chars: Any = None) -> None:
    methods.check_strip(meter, text_of(meter, text), chars)


def _string(meter: Meter, value: Any) -> None:
    text_of(meter, value)


_slow_text = _text(400)
# The filters that take a sequence: a lazy one is computed before the check sees it, so that
# chains of lazy filters do not nest.
_SEQUENCE_CHECKS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("list", "random", "reverse", "map"), _walk),
    **dict.fromkeys(("select", "reject", "selectattr", "rejectattr"), _walk),
    **dict.fromkeys(("sort", "unique", "groupby", "min", "max"), _sort),
    "batch": _sized(0, "linecount"),
    "slice": _sized(0, "slices"),
    "join": _join,
    "sum": _sum,
}
_VALUE_CHECKS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("capitalize", "lower", "upper", "e", "escape", "forceescape"), _text(16)),
    **dict.fromkeys(("striptags", "title", "truncate"), _slow_text),
    **dict.fromkeys(("urlencode", "wordcount", "wordwrap"), _slow_text),
    **dict.fromkeys(("int", "float", "abs", "filesizeformat"), _number),
    **dict.fromkeys(("safe", "string"), _string),
    "center": _center,
    "dictsort": _sort,
    "format": _format,
    "indent": _indent,
    "replace": _replace,
    "round": _round,
    "tojson": _check_json,
    "trim": _trim,
}
_UNCHECKED = ("count", "length", "d", "default", "first", "last", "items")


def guarded_filters(meter: Meter) -> dict[str, Callable[..., Any]]:
    """The filters of one rendering."""
    functions: dict[str, Any] = {**FILTERS, "tojson": to_json}
    table = {
        name: _guarded(meter, functions[name], check, name in _SEQUENCE_CHECKS)
        for name, check in (*_SEQUENCE_CHECKS.items(), *_VALUE_CHECKS.items())
    }
    table.update({name: functions[name] for name in _UNCHECKED})
    return {**table, **_rewritten(meter)}


def _guarded(
    meter: Meter, function: Callable[..., Any], check: Callable[..., None], sequence: bool
) -> Callable[..., Any]:
    marker = getattr(function, "jinja_pass_arg", None)
    skip = 0 if marker is None else 1

    def run(*args: Any, **names: Any) -> Any:
        value = args[skip]
        if sequence and hasattr(value, "__next__"):
            args = (*args[:skip], meter.materialize(value), *args[skip + 1 :])
        check(meter, *args[skip:], **names)
        return meter.made(function(*args, **names))

    if marker is not None:
        run.jinja_pass_arg = marker  # type: ignore[attr-defined]
    return run


def _rewritten(meter: Meter) -> dict[str, Callable[..., Any]]:
    """What template_syntax.py puts in the place of loops, containers, slices and `~`."""

    def tick(value: bool) -> bool:
        meter.tick()
        return value

    def cost(value: Any) -> Any:
        if isinstance(value, (str, list, tuple, dict)):
            meter.charge(meter.weigh(value) // KIB)
        return value

    def concat(values: tuple[Any, ...]) -> str:
        pieces = [text_of(meter, value) for value in values]
        meter.check_text(sum(map(len, pieces)))
        return str(meter.made("".join(pieces)))

    def cut(value: Any, start: Any, stop: Any, step: Any) -> Any:
        if isinstance(value, (str, list, tuple)):
            meter.charge(len(value) // KIB)
        return meter.made(value[start:stop:step])

    return {TICK: tick, COST: cost, CONCAT: concat, SLICE: cut, BUILT: meter.made}


def guarded_tests(meter: Meter) -> dict[str, Callable[..., Any]]:
    """The tests of one rendering: those that compare values count what they walk over."""
    functions: dict[str, Any] = {**TESTS}
    table: dict[str, Callable[..., Any]] = {**functions}
    comparing = "== eq equalto != ne > gt greaterthan ge >= < lt lessthan <= le in lower upper"
    for name in comparing.split():
        table[name] = _comparing(meter, functions[name])
    return table


def _comparing(meter: Meter, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*values: Any) -> Any:
        for value in values:
            if isinstance(value, (str, list, tuple, dict)):
                meter.charge(meter.weigh(value) // KIB)
        return function(*values)

    return run
