"""Every exception rocmforge raises on purpose, by what the caller can do about it.

The native core raises these same classes (native/bindings/bind_error.cpp maps its error
codes onto them). `http_status` and `exit_code` are what the server and the command line
answer with.
"""

from __future__ import annotations


class RocmForgeError(Exception):
    """Base of all deliberate errors. Anything else that escapes is a bug."""

    http_status = 500
    exit_code = 1


class InvalidArgumentError(RocmForgeError, ValueError):
    """The caller's value can never work. The message names the value and its limit."""

    http_status = 400
    exit_code = 2


class ModelFileError(RocmForgeError):
    """A model file is damaged, or is not what its header claims.

    `offset` is the byte in the file where the fault was seen and `key` the metadata key
    or tensor name concerned, each None where it does not apply.
    """

    def __init__(self, message: str, *, offset: int | None = None, key: str | None = None) -> None:
        where = [f"key {key!r}"] if key is not None else []
        if offset is not None:
            where.append(f"offset {offset}")
        super().__init__(f"{message} ({', '.join(where)})" if where else message)
        self.offset = offset
        self.key = key


class UnsupportedError(RocmForgeError):
    """Valid, but this build or machine lacks it. The message lists what it has."""

    http_status = 400


class CapacityError(RocmForgeError):
    """The request queue is full: come back later."""

    http_status = 429


class UnavailableError(RocmForgeError):
    """Loading, draining, or the engine or its device is lost."""

    http_status = 503


class OutOfMemoryError(RocmForgeError, MemoryError):
    """An allocation failed on the host or a device; the state is as before."""

    http_status = 503


class DeviceError(RocmForgeError):
    """The device is lost or lies; the engine has to restart."""

    http_status = 503
