"""What a failed step is to the requests that were in it."""

from __future__ import annotations

from rocmforge.errors import DeviceError, OutOfMemoryError, RocmForgeError


class StepOutOfMemory(Exception):
    """The decoder lacked memory for a step, which did not happen; its cause says more."""


def typed_error(error: BaseException | None) -> RocmForgeError:
    if isinstance(error, RocmForgeError):
        return error
    kind = OutOfMemoryError if isinstance(error, MemoryError) else DeviceError
    typed = kind(f"a step failed with {type(error).__name__}: {error}")
    typed.__cause__ = error
    return typed
