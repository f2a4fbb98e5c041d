"""What one rendering of a chat template may cost, and the meter that holds it to that.

A template is a program from a model file. It runs in the calling thread, which nothing can
stop from outside, so it is stopped from inside: the compiled template reports to a `Meter`
on every loop turn, call, operator, filter, container and piece of output (the syntax tree is
rewritten for it, template_syntax.py). Before an operation runs, its cost is estimated from
the sizes of its operands; after it has run, its result is counted as live memory.

Memory is counted exactly where it can grow: every string or container that the template
makes is held in a table until nothing but the table refers to it, which the interpreter's
reference counts tell.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, NoReturn

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined
from markupsafe import Markup

MAX_SOURCE_BYTES = 256 * 1024
MAX_TOKENS = 6_000  # the largest of 80 real templates has fewer than 3,000
MAX_NODES = 2_500  # the largest has 1,384; parsing and compiling cost about 50 us a node
MAX_SYNTAX_DEPTH = 200
MAX_BRACKET_DEPTH = 50  # the parser spends 13 interpreter frames on each

MAX_INT_BITS = 14_000  # just under the 4,300 digits that Python converts to text
MAX_TEXT = 4 * 1024 * 1024  # characters of any one string
MAX_ITEMS = 200_000  # elements of any one list
MAX_WEIGHT = 64 * 1024 * 1024  # bytes of a container written out as a tree
MAX_PRINTED_WEIGHT = 2 * 1024 * 1024  # the same, for a container turned into text
MAX_VALUE_DEPTH = 100
MAX_CALL_DEPTH = 48  # macros within macros; 7 interpreter frames each
MAX_OPERATION_STEPS = 100_000
# Of the time between two looks at the clock: a collection of garbage in a large process is not the
# template's, but takes its thread longer.
MAX_COUNTED_S = 0.05

KIB = 1024
_TEXT_TYPES = frozenset({str, Markup})
_DATA_TYPES = frozenset({str, Markup, int, float, bool, type(None), range})
_CONTAINERS: tuple[type, ...] = (
    list,
    tuple,
    dict,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)


class RenderLimitError(Exception):
    """The rendering used up its time, memory or output."""


class ForbiddenOperationError(SecurityError):
    """The template asks for something that no chat template needs."""


@dataclass(frozen=True)
class TemplateLimits:
    """Bounds of one rendering. A step is worth about 0.25 microseconds."""

    output_chars: int = MAX_TEXT
    steps: int = 1_000_000
    cpu_s: float = 0.15  # of the calling thread, so that a busy machine refuses nothing
    live_bytes: int = 20 * 1024 * 1024


def _references(table: dict[int, object]) -> int:
    _, value = table.popitem()
    return sys.getrefcount(value)


_UNSHARED = _references({0: object()})


class _Measure(NamedTuple):
    """A container as a tree: bytes, levels, and the type of something in it that is not data."""

    weight: int
    height: int
    opaque: type | None


def _is_data(value: Any) -> bool:
    return type(value) in _DATA_TYPES or isinstance(value, Undefined)


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    else:
        yield from value


class Meter:
    """Counts the steps, the CPU time and the live memory of one rendering."""

    def __init__(self, limits: TemplateLimits, input_bytes: int = 0) -> None:
        self._max_steps = limits.steps
        self._cpu_left = limits.cpu_s
        self._looked_at = time.thread_time()
        self._steps = 0
        self._next_look = 256
        self._max_live = limits.live_bytes + input_bytes
        self._live = 0
        self._held: dict[int, object] = {}
        self._next_purge = 4096
        self._measures: dict[int, _Measure] = {}  # by the id of a held container
        self.call_depth = 0

    def tick(self, steps: int = 1) -> None:
        """Counts work of a known small size, or of a size that `charge` has let through."""
        self._steps += steps
        if self._steps < self._next_look:
            return
        if self._steps > self._max_steps:
            msg = f"the template ran for more than {self._max_steps} steps"
            raise RenderLimitError(msg)
        now = time.thread_time()
        self._cpu_left -= min(now - self._looked_at, MAX_COUNTED_S)
        self._looked_at = now
        if self._cpu_left < 0:
            msg = "the template used up its CPU time"
            raise RenderLimitError(msg)
        self._next_look = self._steps + 256

    def charge(self, steps: int) -> None:
        """Counts one operation before it runs; refuses it when it alone is too long."""
        if steps > MAX_OPERATION_STEPS:
            msg = "one operation of the template works on too much data"
            raise RenderLimitError(msg)
        self.tick(1 + steps)

    def check_text(self, chars: int) -> None:
        """Refuses a string that is about to have `chars` characters; counts the copying."""
        if chars > MAX_TEXT:
            msg = f"the template makes a text of {chars} characters; the limit is {MAX_TEXT}"
            raise RenderLimitError(msg)
        self.charge(chars // KIB)

    def check_items(self, count: int) -> None:
        """Refuses a list that is about to have `count` elements; counts the copying."""
        if count > MAX_ITEMS:
            msg = f"the template makes a list of {count} items; the limit is {MAX_ITEMS}"
            raise RenderLimitError(msg)
        self.charge(count // 16)

    def check_bits(self, bits: int) -> None:
        if bits > MAX_INT_BITS:
            msg = f"the template makes a number of {bits} bits; the limit is {MAX_INT_BITS}"
            raise RenderLimitError(msg)

    def weigh(self, value: Any) -> int:
        """Bytes of a value written out as a tree: what comparing or printing it walks over."""
        kind = type(value)
        if kind in _TEXT_TYPES:
            return 64 + len(value)
        if kind is int:
            return 32 + int(value).bit_length() // 8
        if isinstance(value, _CONTAINERS):
            return self._measure(value, 0).weight
        return 64

    def weigh_printed(self, value: Any) -> int:
        """The weight of a value that is going to be text.

        Refuses what is not data, by itself or inside a container: its printed form would show
        addresses of the process, and nobody wants it in a prompt.
        """
        if isinstance(value, _CONTAINERS):
            measure = self._measure(value, 0)
            if measure.opaque is not None:
                self._refuse_printing(measure.opaque)
            return measure.weight
        if not _is_data(value):
            self._refuse_printing(type(value))
        return self.weigh(value)

    @staticmethod
    def _refuse_printing(kind: type) -> NoReturn:
        msg = f"a {kind.__name__} is not a value that a template may print"
        raise ForbiddenOperationError(msg)

    def _measure(self, value: Any, level: int) -> _Measure:
        known = self._measures.get(id(value))
        if known is not None:
            return known
        if level > MAX_VALUE_DEPTH:
            msg = f"the template nests values deeper than {MAX_VALUE_DEPTH}"
            raise RenderLimitError(msg)
        self.tick(1 + len(value) // 2)
        weight, height = 64, 0
        opaque: type | None = None
        for child in _children(value):
            if isinstance(child, _CONTAINERS):
                below = self._measure(child, level + 1)
                weight += below.weight
                height = max(height, below.height)
                opaque = opaque or below.opaque
            else:
                weight += self.weigh(child)
                if not _is_data(child):
                    opaque = type(child)
        return self._note(value, _Measure(weight, height + 1, opaque))

    def _note(self, value: Any, measure: _Measure) -> _Measure:
        if measure.weight > MAX_WEIGHT:
            msg = f"the template makes a value of more than {MAX_WEIGHT} bytes"
            raise RenderLimitError(msg)
        if measure.height > MAX_VALUE_DEPTH:
            msg = f"the template nests values deeper than {MAX_VALUE_DEPTH}"
            raise RenderLimitError(msg)
        self._hold(value)
        self._measures[id(value)] = measure
        return measure

    def joined(self, left: Any, right: Any) -> Any:
        """`left + right` of two lists or two tuples, weighed without walking them again."""
        self.check_items(len(left) + len(right))
        one, two = self._measure(left, 0), self._measure(right, 0)
        result = left + right
        weight, height = one.weight + two.weight, max(one.height, two.height)
        self._note(result, _Measure(weight, height, one.opaque or two.opaque))
        return result

    def made(self, value: Any) -> Any:
        """Takes note of a value that an operation has just produced, and returns it."""
        kind = type(value)
        if kind in _TEXT_TYPES:
            if len(value) > 1:
                self.tick(1 + len(value) // KIB)
                self._hold(value)
            return value
        if kind is int:
            self.check_bits(value.bit_length())
        elif isinstance(value, (list, tuple, dict)):
            self._measure(value, 0)
            for child in value:
                if type(child) is str and len(child) > 1:
                    self._hold(child)
        return value

    def materialize(self, values: Iterable[Any]) -> list[Any]:
        """The elements as a list. Refuses more than the limit without computing them all."""
        result = list(islice(values, MAX_ITEMS + 1))
        self.check_items(len(result))
        for value in result:
            if type(value) is str or isinstance(value, (list, tuple)):
                self._hold(value)
        self._hold(result)
        return result

    def _hold(self, value: Any) -> None:
        key = id(value)
        if key in self._held:
            return
        self._held[key] = value
        self._live += sys.getsizeof(value)
        if self._live > self._max_live or len(self._held) > self._next_purge:
            self._purge()

    def _purge(self) -> None:
        """Forgets what only the table still refers to. Newest first: containers, then parts."""
        held, survivors, live = self._held, {}, 0
        while held:
            key, value = held.popitem()
            if sys.getrefcount(value) > _UNSHARED:
                survivors[key] = value
                live += sys.getsizeof(value)
            else:
                self._measures.pop(key, None)
        self._held, self._live = survivors, live
        self._next_purge = max(4096, 2 * len(survivors))
        self.tick(len(survivors))
        if live > self._max_live:
            msg = f"the template holds more than {self._max_live >> 20} MiB of values"
            raise RenderLimitError(msg)
