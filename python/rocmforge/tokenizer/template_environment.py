"""The sandbox that chat templates run in: transformers' settings under a meter.

One environment serves one rendering, so that every check reports to that rendering's meter.
The compiled code is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2 import pass_context
from jinja2.exceptions import TemplateError
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, modifies_known_mutable
from jinja2.utils import Cycler, Joiner, Namespace

from rocmforge.tokenizer.template_filters import guarded_filters, guarded_tests, text_of
from rocmforge.tokenizer.template_limits import (
    MAX_CALL_DEPTH,
    ForbiddenOperationError,
    Meter,
    RenderLimitError,
)
from rocmforge.tokenizer.template_methods import METHODS, call_method, check_percent
from rocmforge.tokenizer.template_syntax import BoundedTokens, GenerationTag

MAX_RANGE = 100_000  # jinja2's own bound for sandboxes
MAX_DATE_FORMAT = 256

_RENDERING_TYPES = (Macro, LoopContext)
_OPEN_TYPES = (LoopContext, Namespace, Cycler, Joiner, Macro, Undefined)


class RaisedError(TemplateError):
    """The template called raise_exception."""


def raise_exception(message: Any = "") -> None:
    raise RaisedError(str(message)[:2000])


class GuardedEnvironment(ImmutableSandboxedEnvironment):
    """trim_blocks, lstrip_blocks, loop controls and the generation tag, as transformers has.

    Nothing is computed while compiling: constant folding would run outside the meter, so the
    optimizer is off and `finalize` takes the context, which rules folding of output out.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, meter: Meter, clock: Callable[[], datetime]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[BoundedTokens, GenerationTag, "jinja2.ext.loopcontrols"],
        )
        self._meter = meter
        self._clock = clock
        self.finalize = self.print_value
        self.concat = self.join_output  # type: ignore[method-assign]
        self.filters = guarded_filters(meter)
        self.tests = guarded_tests(meter)  # type: ignore[assignment]
        self.globals = {
            "cycler": Cycler,
            "dict": self._dict,
            "joiner": Joiner,
            "namespace": Namespace,
            "raise_exception": raise_exception,
            "range": self._range,
            "strftime_now": self._strftime_now,
        }
        self._functions = {id(function) for function in self.globals.values()}

    def _range(self, *args: Any) -> range:
        values = range(*args)
        if len(values) > MAX_RANGE:
            msg = f"range() of {len(values)} numbers; the limit is {MAX_RANGE}"
            raise RenderLimitError(msg)
        return values

    def _dict(self, *args: Any, **names: Any) -> dict[Any, Any]:
        if args and hasattr(args[0], "__next__"):
            args = (self._meter.materialize(args[0]), *args[1:])
        for value in args:
            self._meter.charge(self._meter.weigh(value) // 1024)
        result: dict[Any, Any] = self._meter.made(dict(*args, **names))
        return result

    def _strftime_now(self, format: str) -> str:
        if len(format) > MAX_DATE_FORMAT:
            msg = f"a date format of {len(format)} characters; the limit is {MAX_DATE_FORMAT}"
            raise RenderLimitError(msg)
        return self._clock().strftime(format)

    @pass_context
    def print_value(self, context: Context, value: Any) -> str:  # noqa: ARG002
        self._meter.tick()
        return text_of(self._meter, value)

    def join_output(self, pieces: Iterable[str]) -> str:
        """The text that a macro or a block has put out."""
        parts = list(pieces)
        self._meter.charge(len(parts) // 8)
        self._meter.check_text(sum(map(len, parts)))
        return str(self._meter.made("".join(parts)))

    def getattr(self, obj: Any, attribute: str) -> Any:
        self._meter.tick()
        if type(obj) is dict and attribute in obj and not hasattr(dict, attribute):
            return obj[attribute]
        return self._attribute(obj, attribute, items=True)

    def getitem(self, obj: Any, argument: Any) -> Any:
        self._meter.tick()
        try:
            return obj[argument]
        except (TypeError, LookupError):
            if isinstance(argument, str):
                return self._attribute(obj, str(argument), items=False)
        return self.undefined(obj=obj, name=argument)

    def _attribute(self, obj: Any, name: str, *, items: bool) -> Any:
        """The attribute, else (if `items`) the item, else undefined; private ones never."""
        table = METHODS.get(type(obj))
        if table is not None:
            known = hasattr(obj, name)
            if known and name in table:
                return getattr(obj, name)
            if known and modifies_known_mutable(obj, name):
                return self.unsafe_undefined(obj, name)
        else:
            known = name.startswith("_") or not isinstance(obj, (*_OPEN_TYPES, tuple))
            known = known and (isinstance(obj, Namespace) or hasattr(obj, name))
        if known or name.startswith("__"):
            msg = f"the attribute {name[:80]!r} of {type(obj).__name__} is not for templates"
            raise ForbiddenOperationError(msg)
        if table is None:
            return super().getattr(obj, name) if items else self._named(obj, name)
        if items:
            try:
                return obj[name]
            except (TypeError, LookupError):
                pass
        return self.undefined(obj=obj, name=name)

    def _named(self, obj: Any, name: str) -> Any:
        try:
            return getattr(obj, name)
        except AttributeError:
            return self.undefined(obj=obj, name=name)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._meter.tick(2)
        if isinstance(function, _RENDERING_TYPES):
            return self._call_rendering(context, function, args, kwargs)
        if id(function) in self._functions or isinstance(function, (Undefined, Joiner)):
            return super().call(context, function, *args, **kwargs)
        kwargs.pop("_loop_vars", None)  # compiled code passes these to every call
        kwargs.pop("_block_vars", None)
        if isinstance(function, (BuiltinMethodType, MethodType)):
            owner = function.__self__
            if type(owner) in METHODS:
                return call_method(self._meter, function, args, kwargs)
            if isinstance(owner, GenerationTag):
                return function(*args, **kwargs)
            if isinstance(owner, (LoopContext, Cycler)):
                for value in args:
                    self._meter.charge(self._meter.weigh(value) // 1024)
                return function(*args, **kwargs)
        msg = f"a {type(function).__name__} cannot be called by a template"
        raise ForbiddenOperationError(msg)

    def _call_rendering(
        self, context: Context, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        meter = self._meter
        meter.check_items(len(args))
        if meter.call_depth >= MAX_CALL_DEPTH:
            msg = f"the template calls macros nested deeper than {MAX_CALL_DEPTH}"
            raise RenderLimitError(msg)
        meter.call_depth += 1
        try:
            return super().call(context, function, *args, **kwargs)
        finally:
            meter.call_depth -= 1

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002
        return _OPERATIONS[operator](self._meter, left, right)


def _add(meter: Meter, left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        # Either side may be escaped when the other is Markup: 5 characters for one.
        factor = 1 if type(left) is type(right) is str else 5
        meter.check_text(factor * (len(left) + len(right)))
    elif isinstance(left, (list, tuple)) and type(left) is type(right):
        return meter.joined(left, right)
    return meter.made(left + right)


def _multiply(meter: Meter, left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        meter.check_bits(left.bit_length() + right.bit_length() - 1)
    elif isinstance(left, (str, list, tuple)) and isinstance(right, int):
        _check_repeat(meter, left, right)
    elif isinstance(right, (str, list, tuple)) and isinstance(left, int):
        _check_repeat(meter, right, left)
    return meter.made(left * right)


def _check_repeat(meter: Meter, value: Any, times: int) -> None:
    count = len(value) * max(0, times)
    if isinstance(value, str):
        meter.check_text(count)
    else:
        meter.check_items(count)


def _power(meter: Meter, left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and abs(left) > 1:
        meter.check_bits(left.bit_length() * abs(right))
    return meter.made(left**right)


def _modulo(meter: Meter, left: Any, right: Any) -> Any:
    if isinstance(left, str):
        check_percent(meter, left, right)
    return meter.made(left % right)


_OPERATIONS: dict[str, Callable[[Meter, Any, Any], Any]] = {
    "+": _add,
    "*": _multiply,
    "**": _power,
    "%": _modulo,
}
