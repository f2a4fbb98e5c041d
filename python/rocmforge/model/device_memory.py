"""Memory of a GPU for programs of one's own: buffers, views of them, and tensors.

`HipBackend("hip:0")` opens a device by its name, the emulated "host:0" included. Copies pass through
pinned memory of the backend and are done when a call returns. Used by one thread at a time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rocmforge import _native
from rocmforge.errors import InvalidArgumentError

_STAGING_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"(hip|cuda|host):(\d{1,3})")


class HipBackend:
    """One device. Its buffers keep it open."""

    def __init__(self, device: str = "hip:0") -> None:
        """Raises UnsupportedError without the runtime, DeviceError without the device."""
        match = _NAME.fullmatch(device)
        if match is None:
            msg = f"device is {device!r}; it can be hip:N, cuda:N or host:N"
            raise InvalidArgumentError(msg)
        self.device = device
        self.driver = _native.gpu.Driver(match[1], int(match[2]))
        self.stream = self.driver.create_stream()
        self._staging = self.driver.allocate_pinned(_STAGING_BYTES)

    @staticmethod
    def device_count(driver: str = "hip") -> int:
        return len(_native.gpu.devices(driver))

    @staticmethod
    def device_properties(driver: str = "hip") -> list[dict[str, Any]]:
        """Of every device: name, wave_size, num_multiprocessors, free_bytes, pci and more."""
        return _native.gpu.devices(driver)

    def allocate(self, nbytes: int) -> HipBuffer:
        """Memory with undefined contents. Raises OutOfMemoryError."""
        return HipBuffer(self, self.driver.allocate(nbytes), 0, nbytes)

    def tensor(self, values: npt.ArrayLike) -> DeviceTensor:
        """A copy of an array on the device."""
        array = np.ascontiguousarray(values)
        tensor = self.empty(array.shape, array.dtype)
        tensor.buffer.view(0, array.nbytes).write(array)
        return tensor

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> DeviceTensor:
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        return DeviceTensor(self.allocate(max(count * kind.itemsize, 1)), tuple(shape), kind)

    def upload(self, to: HipBuffer, data: npt.NDArray[np.uint8]) -> None:
        for start in range(0, len(data), _STAGING_BYTES):
            piece = data[start : start + _STAGING_BYTES]
            self._staging.array[: len(piece)] = piece
            self.driver.copy_to_device(
                to.memory, self._staging, len(piece), self.stream, to_offset=to.offset + start
            )
            self.stream.synchronize()

    def download(self, source: HipBuffer) -> npt.NDArray[np.uint8]:
        data = np.empty(source.nbytes, np.uint8)
        for start in range(0, source.nbytes, _STAGING_BYTES):
            piece = data[start : start + _STAGING_BYTES]
            self.driver.copy_to_host(
                self._staging,
                source.memory,
                len(piece),
                self.stream,
                source_offset=source.offset + start,
            )
            self.stream.synchronize()
            piece[:] = self._staging.array[: len(piece)]
        return data


@dataclass(frozen=True, slots=True)
class HipBuffer:
    """Bytes on a device, freed with the last buffer or view of them."""

    backend: HipBackend
    memory: _native.gpu.Memory
    offset: int
    nbytes: int

    def view(self, offset: int, nbytes: int) -> HipBuffer:
        """A part of the same memory."""
        if not (offset >= 0 and 0 <= nbytes <= self.nbytes - offset):
            msg = f"a view of {nbytes} bytes at {offset} leaves a buffer of {self.nbytes}"
            raise InvalidArgumentError(msg)
        return HipBuffer(self.backend, self.memory, self.offset + offset, nbytes)

    def write(self, values: bytes | npt.NDArray[Any]) -> None:
        """Fills the buffer; `values` has as many bytes."""
        data = (
            np.frombuffer(values, np.uint8)
            if isinstance(values, bytes)
            else np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        )
        self._check_size(data.nbytes)
        self.backend.upload(self, data)

    def read(self) -> npt.NDArray[np.uint8]:
        return self.backend.download(self)

    def copy_from(self, source: HipBuffer) -> None:
        """From a buffer of the same size and backend; the two do not overlap."""
        self._check_size(source.nbytes)
        if source.backend is not self.backend:
            msg = f"a buffer of {source.backend.device} is copied by way of the host: read, write"
            raise InvalidArgumentError(msg)
        self.backend.driver.copy_on_device(
            self.memory,
            source.memory,
            self.nbytes,
            self.backend.stream,
            to_offset=self.offset,
            source_offset=source.offset,
        )
        self.backend.stream.synchronize()

    def _check_size(self, nbytes: int) -> None:
        if nbytes != self.nbytes:
            msg = f"{nbytes} bytes do not fill a buffer of {self.nbytes}"
            raise InvalidArgumentError(msg)


@dataclass(frozen=True, slots=True)
class DeviceTensor:
    """A contiguous array on a device."""

    buffer: HipBuffer
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def numpy(self) -> npt.NDArray[Any]:
        """A copy on the host."""
        nbytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        return self.buffer.view(0, nbytes).read().view(self.dtype).reshape(self.shape)
