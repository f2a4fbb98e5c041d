"""A GGUF writer that checks nothing, from the format's specification alone.

Magic, version, tensor count, key count,
pairs: key, type, value,
tensors: name, number of dimensions, dimensions, type, offset,
padding, data
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {
    U8: "<B",
    I8: "<b",
    U16: "<H",
    I16: "<h",
    U32: "<I",
    I32: "<i",
    F32: "<f",
    BOOL: "<B",
    U64: "<Q",
    I64: "<q",
    F64: "<d",
}


def scalar(value_type: int, value: float) -> bytes:
    """Type and value."""
    return struct.pack("<I", value_type) + struct.pack(FORMATS[value_type], value)


def text(value: bytes, *, length: int | None = None) -> bytes:
    """Length and bytes; `length` tells a lie."""
    return struct.pack("<Q", len(value) if length is None else length) + value


def string(value: bytes | str, *, length: int | None = None) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", STRING) + text(raw, length=length)


def elements(value_type: int, values: list) -> bytes:
    if value_type == STRING:
        return b"".join(text(v.encode() if isinstance(v, str) else v) for v in values)
    if value_type == ARRAY:
        return b"".join(values)
    return b"".join(struct.pack(FORMATS[value_type], v) for v in values)


def inner_array(value_type: int, values: list, *, count: int | None = None) -> bytes:
    """An array as it stands inside another: without the type ARRAY in front."""
    count = len(values) if count is None else count
    return struct.pack("<IQ", value_type, count) + elements(value_type, values)


def array(value_type: int, values: list, *, count: int | None = None) -> bytes:
    return struct.pack("<I", ARRAY) + inner_array(value_type, values, count=count)


@dataclass
class Tensor:
    name: bytes
    dims: list[int]
    data: bytes
    type_id: int = 0  # F32
    offset: int | None = None  # None: the next aligned place
    num_dims: int | None = None  # None: as many as there are


@dataclass
class GGUFBytes:
    """Every field that is not None replaces what would be right."""

    pairs: list[tuple[bytes, bytes]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    magic: bytes = b"GGUF"
    version: int = 3
    num_tensors: int | None = None
    num_pairs: int | None = None
    alignment: int = 32
    tail: bytes = b""

    def set(self, key: str, value: bytes) -> GGUFBytes:
        """Replaces the value of `key`, or adds it."""
        raw = key.encode()
        for index, (name, _) in enumerate(self.pairs):
            if name == raw:
                self.pairs[index] = (raw, value)
                return self
        self.pairs.append((raw, value))
        return self

    def drop(self, key: str) -> GGUFBytes:
        self.pairs = [pair for pair in self.pairs if pair[0] != key.encode()]
        return self

    def tensor(self, name: str) -> Tensor:
        return next(t for t in self.tensors if t.name == name.encode())

    def drop_tensor(self, name: str) -> GGUFBytes:
        self.tensors = [t for t in self.tensors if t.name != name.encode()]
        return self

    def header(self) -> bytes:
        """Everything before the padding."""
        parts = [
            self.magic,
            struct.pack(
                "<IQQ",
                self.version,
                len(self.tensors) if self.num_tensors is None else self.num_tensors,
                len(self.pairs) if self.num_pairs is None else self.num_pairs,
            ),
        ]
        parts += [text(key) + value for key, value in self.pairs]
        place = 0
        for t in self.tensors:
            offset = place if t.offset is None else t.offset
            num_dims = len(t.dims) if t.num_dims is None else t.num_dims
            parts.append(text(t.name) + struct.pack("<I", num_dims))
            parts.append(struct.pack(f"<{len(t.dims)}QIQ", *t.dims, t.type_id, offset))
            place = self._aligned(place + len(t.data))
        return b"".join(parts)

    def build(self) -> bytes:
        header = self.header()
        parts = [header.ljust(self._aligned(len(header)), b"\0")]
        parts += [t.data.ljust(self._aligned(len(t.data)), b"\0") for t in self.tensors]
        return b"".join(parts) + self.tail

    def _aligned(self, position: int) -> int:
        return -(-position // self.alignment) * self.alignment
