"""Writes a GGUF file, version 3, that is there whole or not at all.

The file grows under a name of its own beside the one it is to have, its space reserved before the
first byte, and is renamed when its last byte is on the disk. Whatever ends the writing before,
Ctrl-C and a full disk among them, removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import final

import numpy as np
import numpy.typing as npt

from rocmforge.errors import InvalidArgumentError, UnavailableError
from rocmforge.gguf.tensor_types import TensorType

_CALLER_CAN_FIX = frozenset(
    {
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENAMETOOLONG,
        errno.EROFS,
    }
)
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor to write; `shape` in ggml's order, a whole number of blocks in its first."""

    name: str
    type: TensorType
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        count = 1
        for dim in self.shape:
            count *= dim
        return count

    @property
    def nbytes(self) -> int:
        return self.num_elements // self.type.block_weights * self.type.block_bytes


@final
class GGUFWriter:
    """A context manager: `write` takes the data of `tensors` in order, in pieces of any length.

    `pairs` maps keys to type and value as they stand in a file (Metadata.raw, raw_scalar).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pairs: Mapping[str, bytes],
        tensors: Sequence[NewTensor],
        alignment: int = 32,
    ) -> None:
        self.path = Path(path)
        self._alignment = alignment
        header = _header(pairs, tensors, alignment)
        self._header = header.ljust(self._aligned(len(header)), b"\0")
        self._left = [tensor.nbytes for tensor in tensors]
        self._left.reverse()
        self.size_bytes = len(self._header) + sum(map(self._aligned, self._left))
        self._written = 0
        self._partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.partial")
        self._fd = -1

    def __enter__(self) -> GGUFWriter:
        if self.path.is_dir():
            msg = f"{self.path} is a directory; name the file to write"
            raise InvalidArgumentError(msg)
        if self.path.exists() and not self.path.is_file():
            # Renaming over it would put a file in the place of a device such as /dev/null.
            msg = f"{self.path} is no regular file, and would be replaced; name another one"
            raise InvalidArgumentError(msg)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(self._partial, flags, 0o666)
            self._reserve()
            self._put(self._header)
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError):
                raise self._translated(error) from error
            raise
        return self

    def write(self, data: npt.NDArray[np.uint8]) -> None:
        """The next bytes, of one tensor; the padding behind its last ones is added."""
        if not self._left or data.nbytes > self._left[-1]:
            msg = "more data than the tensor has"
            raise InvalidArgumentError(msg)
        try:
            self._put(data.tobytes())
            self._left[-1] -= data.nbytes
            if self._left[-1] == 0:
                self._left.pop()
                self._put(bytes(self._aligned(self._written) - self._written))
        except OSError as error:
            raise self._translated(error) from error

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc_type is None:
                if self._left:
                    msg = f"{len(self._left)} tensors of {self.path} have not been written"
                    raise InvalidArgumentError(msg)
                os.fsync(self._fd)
                self._partial.replace(self.path)
        except OSError as error:
            raise self._translated(error) from error
        finally:
            self._discard()

    def _aligned(self, position: int) -> int:
        return -(-position // self._alignment) * self._alignment

    def _reserve(self) -> None:
        """Takes the space, so that a disk too small is known before the work and not after it."""
        try:
            os.posix_fallocate(self._fd, 0, self.size_bytes)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.write(self._fd, view)
            self._written += count
            view = view[count:]

    def _discard(self) -> None:
        """Closes; the unfinished file goes, the finished one has another name by now."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(FileNotFoundError):
                self._partial.unlink()

    def _translated(self, error: OSError) -> InvalidArgumentError | UnavailableError:
        reason = os.strerror(error.errno or errno.EIO)
        msg = f"{self.path} cannot be written: {reason}"
        if error.errno in _CALLER_CAN_FIX:
            return InvalidArgumentError(msg)
        return UnavailableError(f"{msg}; it takes {self.size_bytes} bytes")


def _header(pairs: Mapping[str, bytes], tensors: Sequence[NewTensor], alignment: int) -> bytes:
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(pairs))]
    parts += [_text(key) + value for key, value in pairs.items()]
    offset = 0
    for tensor in tensors:
        dims = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        parts.append(_text(tensor.name) + dims + struct.pack("<IQ", tensor.type.id, offset))
        offset += -(-tensor.nbytes // alignment) * alignment
    return b"".join(parts)


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw
