"""The metadata keys of a model's architecture, read and range-checked."""

from __future__ import annotations

from typing import Final, NoReturn

from rocmforge.errors import UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model.architecture import Architecture

_MIN_POSITIVE: Final = 1e-30  # well inside the normal range of float32


class Keys:
    """Keys are given without the architecture's name before them."""

    def __init__(self, file: GGUFFile, architecture: Architecture) -> None:
        self._metadata = file.metadata
        self._architecture = architecture

    def __contains__(self, name: str) -> bool:
        return self.key(name) in self._metadata

    def key(self, name: str) -> str:
        return f"{self._architecture.name}.{name}"

    def uint(self, name: str, default: int | None = None, *, minimum: int = 1, maximum: int) -> int:
        if default is not None and name not in self:
            return default
        return self._metadata.uint(self.key(name), minimum=minimum, maximum=maximum)

    def uniform(self, name: str, default: int | None = None, *, maximum: int) -> int:
        """A number that may be given once for each layer, if it is the same for all."""
        key = self.key(name)
        if not self._metadata.is_array(key):
            return self.uint(name, default, maximum=maximum)
        values = self._metadata.ints(key, minimum=1, maximum=maximum)
        if values.size == 0:
            self._metadata.fail(key, "the list is empty")
        if (values != values[0]).any():
            msg = f"{key} differs between layers, which is not supported"
            raise UnsupportedError(msg)
        return int(values[0])

    def float(self, name: str, default: float | None = None, *, maximum: float = 1e30) -> float:
        if default is not None and name not in self:
            return default
        return self._metadata.float(self.key(name), minimum=_MIN_POSITIVE, maximum=maximum)

    def fail(self, name: str, message: str) -> NoReturn:
        self._metadata.fail(self.key(name), message)
