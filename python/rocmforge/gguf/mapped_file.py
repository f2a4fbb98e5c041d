"""One file of a model: opened once, read for the header, mapped for the weights.

The header is read with pread rather than through the mapping, so that a file cut short by somebody
else while it is parsed ends in an error and not in SIGBUS. The mapping serves the weights; before
each use the file is compared with what it was when opened.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rocmforge.errors import (
    InvalidArgumentError,
    ModelFileError,
    OutOfMemoryError,
    RocmForgeError,
    UnavailableError,
)

_CALLER_CAN_FIX = frozenset(
    {
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ENXIO,
        errno.ENODEV,
    }
)


class MappedFile:
    """Owns a descriptor and a read-only mapping of a non-empty regular file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._map: mmap.mmap | None = None
        try:
            # Without O_NONBLOCK, opening a FIFO would wait for a writer.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self._fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(status.st_mode):
                msg = f"{path} is not a regular file; a model has to be one to be mapped"
                raise InvalidArgumentError(msg)
            if status.st_size == 0:
                msg = f"{path}: not a GGUF model; the file is empty"
                raise ModelFileError(msg, offset=0)
            self.size = status.st_size
            self._identity = _identity(status)
            self._map = mmap.mmap(self._fd, self.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            self.close()
            raise _translated(error, path) from error
        except RocmForgeError:
            self.close()
            raise

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes; the caller has checked them against `size`."""
        try:
            data = os.pread(self._fd, count, offset)
        except OSError as error:
            raise _translated(error, self.path) from error
        if len(data) != count:
            msg = f"{self.path} became shorter while it was read"
            raise ModelFileError(msg, offset=offset)
        return data

    def view(self, offset: int, count: int) -> npt.NDArray[np.uint8]:
        """Read-only view of the mapped bytes, valid as long as the caller keeps it."""
        if self._map is None:
            msg = f"{self.path} has been closed"
            raise InvalidArgumentError(msg)
        if _identity(os.fstat(self._fd)) != self._identity:
            msg = f"{self.path} has changed since it was opened; load it again"
            raise ModelFileError(msg, offset=offset)
        return np.frombuffer(self._map, np.uint8, count, offset)

    @property
    def descriptor(self) -> int:
        return self._fd

    def close(self) -> None:
        """Closes the descriptor; the mapping goes with the last view of it."""
        if self._map is not None:
            # BufferError: a view is alive and holds the mapping until it dies.
            with contextlib.suppress(BufferError):
                self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _translated(error: OSError | ValueError, path: Path) -> RocmForgeError:
    if isinstance(error, InvalidArgumentError):
        return error
    if not isinstance(error, OSError):
        return InvalidArgumentError(f"{str(path)!r} is not a usable path: {error}")
    if error.errno == errno.EISDIR:
        return InvalidArgumentError(f"{path} is a directory; name the .gguf file in it")
    if error.errno == errno.ENOENT:
        return InvalidArgumentError(f"{path} does not exist")
    reason = os.strerror(error.errno or errno.EIO)
    if error.errno in _CALLER_CAN_FIX:
        return InvalidArgumentError(f"{path} cannot be opened: {reason}")
    if error.errno == errno.ENOMEM:
        return OutOfMemoryError(f"{path} cannot be mapped: {reason}")
    return UnavailableError(f"{path} cannot be read: {reason}")
