"""Reads the header of one GGUF file: key-value pairs, then tensor descriptions.

Specification: docs/gguf.md of ggml. The file is hostile until proven otherwise: no count or length
is used before it has been compared with the bytes that are left, and nothing is reserved from one.
The limits bound the time of a refusal; each is far above what any published model has.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NoReturn

from rocmforge.errors import ModelFileError
from rocmforge.gguf._string_arrays import skip
from rocmforge.gguf.mapped_file import MappedFile
from rocmforge.gguf.signature import describe
from rocmforge.gguf.values import SCALARS, VALUE_TYPES, Array, Scalar, ValueType

MAX_HEADER_BYTES = 128 << 20  # many times a vocabulary of 256k tokens and its merges
MAX_STRING_BYTES = 64 << 20
MAX_KEY_BYTES = (1 << 16) - 1  # the specification's own limit
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_STRINGS = 1 << 22  # in all arrays of a file together
MAX_INNER_ARRAYS = 1 << 16  # likewise
MAX_ARRAY_DEPTH = 4
MAX_NAME_BYTES = 63  # GGML_MAX_NAME less its final NUL
MAX_DIMS = 4

_ELEMENT_LIMITS = {ValueType.STRING: MAX_STRINGS, ValueType.ARRAY: MAX_INNER_ARRAYS}
_MIN_PAIR = 8 + 4 + 1  # key length, value type, one byte of value
_MIN_TENSOR = 8 + 4 + 8 + 4 + 8  # name length, number of dimensions, one of them, type, offset
_CHUNK = 1 << 20
_SHOWN_KEY = 100  # characters of a key in an error
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor description as written; `position` is where it stands in the file."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int  # from the start of the data section
    position: int


@dataclass(frozen=True, slots=True)
class Header:
    version: int
    pairs: dict[str, Scalar | Array]
    tensors: list[RawTensor]
    data: bytearray  # the file up to `end`
    end: int


def read_header(file: MappedFile) -> Header:
    return _HeaderReader(file).read()


class _HeaderReader:
    """A cursor over the first bytes of the file, fetched as they are needed."""

    def __init__(self, file: MappedFile) -> None:
        self._file = file
        self._size = file.size
        self._data = bytearray()
        self._pos = 0
        self._room = dict(_ELEMENT_LIMITS)

    def read(self) -> Header:
        version = self._preamble()
        num_tensors = self._u64("the tensor count")
        num_pairs = self._u64("the key count")
        self._check_count("key", num_pairs, MAX_KEYS, _MIN_PAIR, 16)
        pairs: dict[str, Scalar | Array] = {}
        for _ in range(num_pairs):
            self._pair(pairs)
        self._check_count("tensor", num_tensors, MAX_TENSORS, _MIN_TENSOR, 8)
        seen: set[str] = set()
        tensors = [self._tensor(seen) for _ in range(num_tensors)]
        del self._data[self._pos :]
        return Header(version, pairs, tensors, self._data, self._pos)

    def _preamble(self) -> int:
        head = self._file.read(0, min(self._size, 512))
        if not head.startswith(b"GGUF"):
            self._fail(f"not a GGUF model; it looks like {describe(head, self._size)}", 0)
        self._pos = 4
        version = self._u32("the version")
        if version and version & 0xFFFF == 0:
            self._fail("this is a big-endian GGUF file; convert it to little-endian", 4)
        if version not in (2, 3):
            self._fail(f"GGUF version {version} is not readable; versions 2 and 3 are", 4)
        return version

    def _check_count(self, what: str, count: int, limit: int, record: int, offset: int) -> None:
        room = (self._size - self._pos) // record
        if count > room:
            self._fail(f"{count} {what}s are claimed, {room} fit into the rest of the file", offset)
        if count > limit:
            self._fail(f"{count} {what}s are claimed; the limit is {limit}", offset)

    def _pair(self, pairs: dict[str, Scalar | Array]) -> None:
        position = self._pos
        key = self._text("a metadata key", MAX_KEY_BYTES)
        if key in pairs:
            self._fail("a metadata key occurs twice", position, key)
        position = self._pos
        value_type = self._value_type(key)
        if value_type is ValueType.ARRAY:
            pairs[key] = self._array(key, position, 1)
        elif value_type is ValueType.STRING:
            value = self._bytes("a string", MAX_STRING_BYTES, key)
            pairs[key] = Scalar(value_type, position, value)
        else:
            pairs[key] = self._number(key, value_type, position)

    def _value_type(self, key: str) -> ValueType:
        position = self._pos
        value_type = VALUE_TYPES.get(type_id := self._u32("a value type", key))
        if value_type is None:
            self._fail(f"unknown metadata value type {type_id}", position, key)
        return value_type

    def _number(self, key: str, value_type: ValueType, position: int) -> Scalar:
        layout = SCALARS[value_type]
        self._require(layout.size, "a value", key)
        (value,) = layout.unpack_from(self._data, self._pos)
        if value_type is ValueType.BOOL:
            self._check_bools(self._pos, self._pos + 1, key)
            value = bool(value)
        self._pos += layout.size
        return Scalar(value_type, position, value)

    def _array(self, key: str, position: int, depth: int) -> Array:
        if depth > MAX_ARRAY_DEPTH:
            self._fail(f"arrays are nested more than {MAX_ARRAY_DEPTH} deep", position, key)
        value_type = self._value_type(key)
        count = self._u64("an array length", key)
        start = self._pos
        layout = SCALARS.get(value_type)
        if layout is not None:
            self._require(count * layout.size, f"an array of {count} {value_type.name}", key)
            self._pos += count * layout.size
            if value_type is ValueType.BOOL:
                self._check_bools(start, self._pos, key)
            return Array(value_type, position, count, start, self._pos)
        record = 8 if value_type is ValueType.STRING else 12
        self._require(count * record, f"an array of {count} {value_type.name}", key)
        self._room[value_type] -= count
        if self._room[value_type] < 0:
            limit = _ELEMENT_LIMITS[value_type]
            self._fail(
                f"the arrays hold more than {limit} {value_type.name} elements", position, key
            )
        if value_type is ValueType.STRING:
            self._skip_strings(count, key)
        else:
            for _ in range(count):
                self._array(key, self._pos, depth + 1)
        return Array(value_type, position, count, start, self._pos)

    def _skip_strings(self, count: int, key: str) -> None:
        """Checks every length and moves past the strings."""
        while True:
            skipped, self._pos = skip(self._data, self._pos, count, MAX_STRING_BYTES)
            count -= skipped
            if not count:
                return
            # The next one is beyond what has been read, or wrong.
            length = self._u64("a string length", key)
            self._check_length(length, "a string", MAX_STRING_BYTES, key)
            self._require(length, "a string", key)
            self._pos += length
            count -= 1

    def _tensor(self, seen: set[str]) -> RawTensor:
        position = self._pos
        name = self._text("a tensor name", MAX_NAME_BYTES)
        if name in seen:
            self._fail("a tensor name occurs twice", position, name)
        seen.add(name)
        num_dims = self._u32("the number of dimensions", name)
        if not 1 <= num_dims <= MAX_DIMS:
            self._fail(
                f"a tensor has {num_dims} dimensions; 1 to {MAX_DIMS} are possible",
                self._pos - 4,
                name,
            )
        shape = tuple(self._u64("a dimension", name) for _ in range(num_dims))
        type_id = self._u32("a tensor type", name)
        offset = self._u64("a tensor offset", name)
        return RawTensor(name, shape, type_id, offset, position)

    def _u32(self, what: str, key: str | None = None) -> int:
        self._require(4, what, key)
        (value,) = _U32.unpack_from(self._data, self._pos)
        self._pos += 4
        return int(value)

    def _u64(self, what: str, key: str | None = None) -> int:
        self._require(8, what, key)
        (value,) = _U64.unpack_from(self._data, self._pos)
        self._pos += 8
        return int(value)

    def _bytes(self, what: str, limit: int, key: str | None = None) -> bytes:
        length = self._u64(f"the length of {what}", key)
        self._check_length(length, what, limit, key)
        self._require(length, what, key)
        raw = bytes(self._data[self._pos : self._pos + length])
        self._pos += length
        return raw

    def _check_length(self, length: int, what: str, limit: int, key: str | None) -> None:
        left = self._size - self._pos
        if length > left:
            self._fail(
                f"{what} claims {length} bytes; the file has {left} left", self._pos - 8, key
            )
        if length > limit:
            self._fail(f"{what} has {length} bytes; the limit is {limit}", self._pos - 8, key)

    def _check_bools(self, start: int, end: int, key: str) -> None:
        if self._data[start:end].translate(None, b"\0\1"):
            self._fail("a truth value is neither 0 nor 1", start, key)

    def _require(self, count: int, what: str, key: str | None = None) -> None:
        """Makes `count` bytes from the cursor on available in `_data`, or refuses the file."""
        end = self._pos + count
        if end <= len(self._data):
            return
        if end > self._size:
            self._fail(
                f"the file ends inside {what}: {count} bytes needed, {self._size - self._pos} left",
                self._pos,
                key,
            )
        if end > MAX_HEADER_BYTES:
            self._fail(f"the header is larger than {MAX_HEADER_BYTES} bytes", self._pos, key)
        have = len(self._data)
        want = min(max(end, have + _CHUNK), self._size)
        while have < want:
            self._data += self._file.read(have, min(want - have, _CHUNK))
            have = len(self._data)

    def _text(self, what: str, limit: int) -> str:
        position = self._pos
        raw = self._bytes(what, limit)
        if not raw:
            self._fail(f"{what} is empty", position)
        if b"\0" in raw:
            self._fail(f"{what} contains a NUL byte", position)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self._fail(f"{what} is not valid UTF-8", position)

    def _fail(self, message: str, offset: int, key: str | None = None) -> NoReturn:
        msg = f"{self._file.path}: {message}"
        if key is not None and len(key) > _SHOWN_KEY:
            key = key[:_SHOWN_KEY] + "..."
        raise ModelFileError(msg, offset=offset, key=key)
