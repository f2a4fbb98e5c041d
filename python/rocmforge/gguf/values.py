"""The value types of GGUF metadata and where a value lies in the header's bytes."""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


class ValueType(enum.IntEnum):
    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12


VALUE_TYPES: dict[int, ValueType] = {int(value_type): value_type for value_type in ValueType}

INTEGERS = frozenset(
    {
        ValueType.U8,
        ValueType.I8,
        ValueType.U16,
        ValueType.I16,
        ValueType.U32,
        ValueType.I32,
        ValueType.U64,
        ValueType.I64,
    }
)
FLOATS = frozenset({ValueType.F32, ValueType.F64})

# Scalars of fixed size; a bool is one byte, 0 or 1.
SCALARS: dict[ValueType, struct.Struct] = {
    ValueType.U8: struct.Struct("<B"),
    ValueType.I8: struct.Struct("<b"),
    ValueType.U16: struct.Struct("<H"),
    ValueType.I16: struct.Struct("<h"),
    ValueType.U32: struct.Struct("<I"),
    ValueType.I32: struct.Struct("<i"),
    ValueType.F32: struct.Struct("<f"),
    ValueType.BOOL: struct.Struct("<B"),
    ValueType.U64: struct.Struct("<Q"),
    ValueType.I64: struct.Struct("<q"),
    ValueType.F64: struct.Struct("<d"),
}

DTYPES: dict[ValueType, np.dtype[np.generic]] = {
    value_type: np.dtype("?" if value_type is ValueType.BOOL else layout.format)
    for value_type, layout in SCALARS.items()
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value read at once."""

    type: ValueType
    offset: int
    value: Any  # int, float or bool; bytes for a string, as only typed access demands UTF-8

    @property
    def type_name(self) -> str:
        return self.type.name.lower()


@dataclass(frozen=True, slots=True)
class Array:
    """`count` elements in bytes [start, end) of the header, all inside it; decoded on access."""

    type: ValueType  # of the elements
    offset: int
    count: int
    start: int
    end: int

    @property
    def type_name(self) -> str:
        return f"{self.type.name.lower()}[{self.count}]"


def raw_scalar(value_type: ValueType, value: Any) -> bytes:
    """Type and value as they stand in a file; a string is given as bytes."""
    head = struct.pack("<I", value_type)
    if value_type is ValueType.STRING:
        return head + struct.pack("<Q", len(value)) + bytes(value)
    return head + SCALARS[value_type].pack(value)


def string_ranges(data: bytearray, array: Array) -> Iterator[tuple[int, int]]:
    """Where each string of an array, whose lengths have been checked, starts and ends."""
    position = array.start
    unpack = SCALARS[ValueType.U64].unpack_from
    for _ in range(array.count):
        start = position + 8
        position = start + unpack(data, position)[0]
        yield start, position


def nested_arrays(data: bytearray, array: Array) -> Iterator[Array]:
    """The arrays inside an array of arrays that has been checked."""
    position = array.start
    for _ in range(array.count):
        type_id, count = struct.unpack_from("<IQ", data, position)
        inner = Array(ValueType(type_id), position, count, position + 12, position + 12)
        end = _end(data, inner)
        yield dataclasses.replace(inner, end=end)
        position = end


def _end(data: bytearray, array: Array) -> int:
    layout = SCALARS.get(array.type)
    if layout is not None:
        return array.start + array.count * layout.size
    if array.type is ValueType.STRING:
        return max((end for _, end in string_ranges(data, array)), default=array.start)
    return max((inner.end for inner in nested_arrays(data, array)), default=array.start)
