"""The key-value pairs of a GGUF file, with typed access.

Two kinds of access. As a mapping it is for showing: every value decodes, invalid UTF-8 with
replacement characters, arrays afresh on each access. The typed getters are for using: a value that
is missing, of another type or out of range is a ModelFileError that names key and offset.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, overload

import numpy as np
import numpy.typing as npt

from rocmforge.errors import ModelFileError
from rocmforge.gguf._string_arrays import decode
from rocmforge.gguf.values import (
    DTYPES,
    FLOATS,
    INTEGERS,
    Array,
    Scalar,
    ValueType,
    nested_arrays,
    raw_scalar,
    string_ranges,
)

T = TypeVar("T")
_UINT_MAX: Final = (1 << 64) - 1
_INT_MIN: Final = -(1 << 63)
_INT_MAX: Final = (1 << 63) - 1


class _Required:
    """The default of a getter whose key has to be there."""


_REQUIRED: Final = _Required()


class Metadata(Mapping[str, Any]):
    """Values are int, float, bool, str, a list (of str or lists) or a NumPy array."""

    def __init__(self, path: Path, pairs: dict[str, Scalar | Array], data: bytearray) -> None:
        self._path = path
        self._pairs = pairs
        self._data = data

    def __getitem__(self, key: str) -> Any:
        return self._shown(self._pairs[key])

    def __contains__(self, key: object) -> bool:  # Mapping's would decode the value
        return key in self._pairs

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def type_name(self, key: str) -> str:
        """As in "u32", "string" or "string[151936]"."""
        return self._pairs[key].type_name

    def is_array(self, key: str) -> bool:
        """False also where the key is absent."""
        return isinstance(self._pairs.get(key), Array)

    def count(self, key: str) -> int | None:
        """Number of elements of the array `key`, without decoding it; None if absent."""
        pair = self._pairs.get(key)
        if pair is None:
            return None
        if isinstance(pair, Scalar):
            self._wrong_type(key, pair, "an array")
        return pair.count

    @overload
    def uint(self, key: str, *, minimum: int = 0, maximum: int = _UINT_MAX) -> int: ...
    @overload
    def uint(
        self, key: str, default: T, *, minimum: int = 0, maximum: int = _UINT_MAX
    ) -> int | T: ...
    def uint(
        self, key: str, default: Any = _REQUIRED, *, minimum: int = 0, maximum: int = _UINT_MAX
    ) -> Any:
        """An integer of any width and signedness in [minimum, maximum]."""
        pair = self._scalar(key, default, INTEGERS, "an integer")
        if pair is None:
            return default
        value = pair.value
        if not minimum <= value <= maximum:
            self._fail(key, pair, f"{value} is outside of {minimum} to {maximum}")
        return value

    @overload
    def float(
        self, key: str, *, minimum: float = -math.inf, maximum: float = math.inf
    ) -> float: ...
    @overload
    def float(
        self, key: str, default: T, *, minimum: float = -math.inf, maximum: float = math.inf
    ) -> float | T: ...
    def float(
        self,
        key: str,
        default: Any = _REQUIRED,
        *,
        minimum: float = -math.inf,
        maximum: float = math.inf,
    ) -> Any:
        """A finite number in [minimum, maximum]."""
        pair = self._scalar(key, default, FLOATS, "a float")
        if pair is None:
            return default
        value = pair.value
        if not math.isfinite(value):
            self._fail(key, pair, f"{value} is not a finite number")
        if not minimum <= value <= maximum:
            self._fail(key, pair, f"{value} is outside of {minimum} to {maximum}")
        return value

    @overload
    def bool(self, key: str) -> bool: ...
    @overload
    def bool(self, key: str, default: T) -> bool | T: ...
    def bool(self, key: str, default: Any = _REQUIRED) -> Any:
        pair = self._scalar(key, default, frozenset({ValueType.BOOL}), "a bool")
        return default if pair is None else pair.value

    @overload
    def string(self, key: str) -> str: ...
    @overload
    def string(self, key: str, default: T) -> str | T: ...
    def string(self, key: str, default: Any = _REQUIRED) -> Any:
        pair = self._scalar(key, default, frozenset({ValueType.STRING}), "a string")
        if pair is None:
            return default
        try:
            return pair.value.decode()
        except UnicodeDecodeError:
            self._fail(key, pair, "the string is not valid UTF-8")

    def strings(self, key: str) -> list[str]:
        """The strings of the array `key`."""
        pair = self._array(key, frozenset({ValueType.STRING}), "an array of strings")
        try:
            return decode(self._data, pair.start, pair.count)
        except UnicodeDecodeError:
            index = next(i for i, raw in enumerate(self.byte_strings(key)) if not _is_utf8(raw))
            self._fail(key, pair, f"string {index} of the array is not valid UTF-8")

    def byte_strings(self, key: str) -> list[bytes]:
        """The strings of the array `key` as bytes, valid UTF-8 or not."""
        pair = self._array(key, frozenset({ValueType.STRING}), "an array of strings")
        return [bytes(self._data[start:end]) for start, end in string_ranges(self._data, pair)]

    def ints(
        self, key: str, *, minimum: int = _INT_MIN, maximum: int = _INT_MAX
    ) -> npt.NDArray[np.int64]:
        """The integers of the array `key`, each in [minimum, maximum]."""
        maximum = min(maximum, _INT_MAX)
        pair = self._array(key, INTEGERS, "an array of integers")
        values = self._numbers(pair)
        if values.size:
            # As Python integers, so that u64 values and the bounds compare exactly.
            for extreme in (int(values.min()), int(values.max())):
                if not minimum <= extreme <= maximum:
                    self._fail(key, pair, f"{extreme} is outside of {minimum} to {maximum}")
        return values.astype(np.int64)

    def flags(self, key: str) -> npt.NDArray[np.bool_]:
        """The array `key` of bools, or of integers that are 0 or 1."""
        pair = self._array(key, INTEGERS | {ValueType.BOOL}, "an array of bools")
        values = self._numbers(pair)
        bad = np.flatnonzero((values != 0) & (values != 1))
        if bad.size:
            index = int(bad[0])
            self._fail(key, pair, f"element {index} is {values[index]}, neither 0 nor 1")
        return values.astype(np.bool_)

    def floats(self, key: str) -> npt.NDArray[np.float64]:
        """The finite numbers of the array `key`."""
        pair = self._array(key, FLOATS, "an array of floats")
        values = self._numbers(pair).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            index = int(bad[0])
            self._fail(key, pair, f"element {index} is {values[index]}, not a finite number")
        return values

    def raw(self, key: str) -> bytes:
        """Type and value as they stand in a file, byte for byte."""
        pair = self._pairs[key]
        if isinstance(pair, Array):
            head = struct.pack("<IIQ", ValueType.ARRAY, pair.type, pair.count)
            return head + bytes(self._data[pair.start : pair.end])
        return raw_scalar(pair.type, pair.value)

    def fail(self, key: str, message: str) -> NoReturn:
        """Raises the ModelFileError for a value that is wrong in the light of others."""
        pair = self._pairs.get(key)
        if pair is None:
            msg = f"{self._path}: {message}"
            raise ModelFileError(msg, key=key)
        self._fail(key, pair, message)

    def _shown(self, pair: Scalar | Array) -> Any:
        if isinstance(pair, Scalar):
            return _display(pair.value) if isinstance(pair.value, bytes) else pair.value
        if pair.type is ValueType.STRING:
            return [_display(self._data[s:e]) for s, e in string_ranges(self._data, pair)]
        if pair.type is ValueType.ARRAY:
            return [self._shown(inner) for inner in nested_arrays(self._data, pair)]
        return self._numbers(pair)

    def _numbers(self, pair: Array) -> npt.NDArray[Any]:
        return np.frombuffer(self._data, DTYPES[pair.type], pair.count, pair.start)

    def _scalar(
        self, key: str, default: object, types: frozenset[ValueType], wanted: str
    ) -> Scalar | None:
        pair = self._pairs.get(key)
        if pair is None:
            if default is _REQUIRED:
                self._missing(key)
            return None
        if isinstance(pair, Array) or pair.type not in types:
            self._wrong_type(key, pair, wanted)
        return pair

    def _array(self, key: str, types: frozenset[ValueType], wanted: str) -> Array:
        pair = self._pairs.get(key)
        if pair is None:
            self._missing(key)
        if isinstance(pair, Scalar) or pair.type not in types:
            self._wrong_type(key, pair, wanted)
        return pair

    def _missing(self, key: str) -> NoReturn:
        msg = f"{self._path}: a required metadata key is missing"
        raise ModelFileError(msg, key=key)

    def _wrong_type(self, key: str, pair: Scalar | Array, wanted: str) -> NoReturn:
        self._fail(key, pair, f"the value is {pair.type_name}, not {wanted}")

    def _fail(self, key: str, pair: Scalar | Array, message: str) -> NoReturn:
        msg = f"{self._path}: {message}"
        raise ModelFileError(msg, offset=pair.offset, key=key)


def _display(raw: bytes | bytearray) -> str:
    return raw.decode(errors="replace")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
