"""Importance matrices: how much each column of a weight matters, as llama.cpp's tool records it.

For each tensor the sums of the squares of the activations that met a column, for each expert apart,
and how many there were. Both kinds of file are read: GGUF with general.type "imatrix", and the
older one without any magic, which is recognised by being no GGUF.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rocmforge.errors import InvalidArgumentError, ModelFileError
from rocmforge.gguf import GGUFFile, TensorType

Importance = dict[str, npt.NDArray[np.float32]]  # of a tensor: (experts or 1, columns), >= 0

MAX_BYTES = 1 << 30
MAX_NAME_BYTES = 256
_SUMS, _COUNTS = ".in_sum2", ".counts"


def read_importance(path: str | os.PathLike[str]) -> Importance:
    """Raises InvalidArgumentError for a path that cannot be one, ModelFileError for a damaged file."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            is_gguf = stream.read(4) == b"GGUF"
            size = os.fstat(stream.fileno()).st_size
            if not is_gguf and size <= MAX_BYTES:
                stream.seek(0)
                return _Entries(path, stream.read()).read()
    except OSError as error:
        msg = f"{path} cannot be read: {os.strerror(error.errno or 0)}"
        raise InvalidArgumentError(msg) from error
    if not is_gguf:
        msg = f"{path} has {size} bytes; an importance matrix has at most {MAX_BYTES}"
        raise InvalidArgumentError(msg)
    return _from_gguf(path)


def _from_gguf(path: Path) -> Importance:
    with GGUFFile.open(path) as file:
        kind = file.metadata.string("general.type", "model")
        if kind != "imatrix":
            file.metadata.fail("general.type", f"the type is {kind!r}, not 'imatrix'")
        found: Importance = {}
        for name in file.tensors:
            if not name.endswith(_SUMS):
                continue
            base = name.removesuffix(_SUMS)
            sums, counts = _floats(file, name), _floats(file, base + _COUNTS)
            if counts.shape != (sums.shape[0], 1):
                msg = f"{path}: {counts.size} counts stand for {sums.shape[0]} matrices"
                raise ModelFileError(msg, key=base)
            found[base] = _checked(path, base, sums / np.maximum(counts, 1))
    if not found:
        msg = f"{path}: the file has no tensor {_SUMS}"
        raise ModelFileError(msg)
    return found


def _floats(file: GGUFFile, name: str) -> npt.NDArray[np.float32]:
    tensor = file.tensors.get(name)
    if tensor is None or tensor.type is not TensorType.F32:
        msg = f"{file.path}: the tensor is missing, or not F32"
        raise ModelFileError(msg, key=name)
    return file.tensor_data(name).view(np.float32).reshape(-1, tensor.shape[0])


class _Entries:
    """The older kind: a count, then name, calls, number of values and values of each entry."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
        self._position = 0

    def read(self) -> Importance:
        found: Importance = {}
        for _ in range(self._int("the number of entries", len(self._data) // 12)):
            length = self._int("the length of a name", MAX_NAME_BYTES)
            name = self._take(length).decode(errors="replace")
            calls = self._int("the number of calls", (1 << 31) - 1)
            count = self._int("the number of values", len(self._data) // 4)
            values = np.frombuffer(self._take(4 * count), "<f4")
            found[name] = _checked(self._path, name, (values / max(calls, 1)).reshape(1, -1))
        return found

    def _int(self, what: str, maximum: int) -> int:
        position = self._position
        (value,) = struct.unpack("<i", self._take(4))
        if not 1 <= value <= maximum:
            msg = f"{self._path} is no importance matrix: {what} is {value}"
            raise ModelFileError(msg, offset=position)
        return int(value)

    def _take(self, count: int) -> bytes:
        data = self._data[self._position : self._position + count]
        if len(data) != count:
            msg = f"{self._path}: the importance matrix is cut short"
            raise ModelFileError(msg, offset=self._position)
        self._position += count
        return data


def _checked(path: Path, name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if not np.isfinite(values).all() or (values < 0).any():
        msg = f"{path}: the importance of a column is negative or no number"
        raise ModelFileError(msg, key=name)
    return np.ascontiguousarray(values, np.float32)
