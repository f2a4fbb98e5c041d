"""Launches kernels of the host build; argument structs are read from kernels/include/args.hpp.

Memory that a kernel sees lies between margins of NaNs; a launch that changes a margin fails.
ROCMFORGE_KERNEL_DEVICE ("cuda:0", "hip:0") has the code object of that device run instead, on pinned
memory of the host; "emulator:gfx1100:FILE" has a code object executed as AMD machine code by
tools/amd_emulator.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rocmforge import _native
from rocmforge.model.gpu_devices import find_gpus

KERNELS = Path(__file__).parents[2] / "kernels"
DEVICE = os.environ.get("ROCMFORGE_KERNEL_DEVICE")
THREADS = 256
ROW_PIECE = 1024  # floats of a row that one block of the row-wise kernels handles
MARGIN = 256

SCALARS = {
    "std::int32_t": ctypes.c_int32,
    "std::int64_t": ctypes.c_int64,
    "std::uint64_t": ctypes.c_uint64,
    "float": ctypes.c_float,
}


EMULATED = DEVICE is not None and DEVICE.startswith("emulator:")


@functools.cache
def machine() -> Any:
    """The emulated AMD GPU with its code object."""
    assert DEVICE is not None
    sys.path.insert(0, str(KERNELS.parent / "tools/amd_emulator"))
    from machine import Machine

    _, target, path = DEVICE.split(":", 2)
    return Machine(target, Path(path))


def is_built(kernel: str) -> bool:
    """Whether the emulated GPU's code object has it; the other devices here have all."""
    return not EMULATED or kernel in machine().code.kernels


@functools.cache
def _device() -> tuple[Any, Any]:
    """The driver of DEVICE with its kernels loaded, and a stream."""
    (found,) = [gpu for gpu in find_gpus() if gpu.name == DEVICE]
    assert found.code_object is not None, found.problem
    driver = _native.gpu.Driver(found.driver, found.ordinal)
    driver.load(found.code_object.read_bytes())
    return driver, driver.create_stream()


def _waves() -> tuple[int, ...]:
    if DEVICE is None:
        return (32, 64)
    if EMULATED:
        return (machine().wave,)
    (size,) = [gpu.wave_size for gpu in find_gpus() if gpu.name == DEVICE]
    assert size is not None
    return (size,)


WAVES = _waves()


class KernelError(Exception):
    """The executor's reason for not finishing a launch."""


@functools.cache
def _structs() -> dict[str, type[ctypes.Structure]]:
    files = ("include/args.hpp", "include/sample_args.hpp", "include/step_args.hpp")
    source = re.sub(r"//.*", "", "".join((KERNELS / file).read_text() for file in files))
    structs: dict[str, type[ctypes.Structure]] = {}
    for name, body in re.findall(r"struct (\w+) \{(.*?)\n\};", source, re.DOTALL):
        if name == "Q8Scale":
            continue
        fields = [_field(declaration, structs) for declaration in body.split(";")[:-1]]
        structs[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    return structs


def _field(declaration: str, structs: dict[str, type[ctypes.Structure]]) -> tuple[str, Any]:
    kind, name = re.fullmatch(r"\s*(?:const )?([\w:]+\*?) (\w+)\s*", declaration).groups()
    if kind.endswith("*"):
        return name, ctypes.c_void_p
    return name, SCALARS.get(kind) or structs[kind]


@functools.cache
def operations() -> dict[str, tuple[str, str]]:
    """Operation -> (kind of its variants, argument struct), from kernels.def."""
    entries = re.findall(
        r"^RF_KERNEL(\w*)\((\w+), (\w+)\)$", (KERNELS / "kernels.def").read_text(), re.MULTILINE
    )
    return {operation: (kind.lstrip("_"), args) for kind, operation, args in entries}


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(_native.__file__)
    library.rf_host_launch.argtypes = [
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_uint32),
        ctypes.POINTER(ctypes.c_uint32),
        ctypes.c_uint32,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    return library


def _bytes(count: int) -> np.ndarray:
    if DEVICE is None or EMULATED:
        return np.empty(count, np.uint8)
    array: np.ndarray = _device()[0].allocate_pinned(count).array
    return array


class Memory:
    """An array for a kernel, 64-byte aligned, margins of 0xff bytes (NaNs) around it."""

    def __init__(self, content: np.ndarray) -> None:
        content = np.ascontiguousarray(content)
        size = -(-content.nbytes // 16) * 16
        self._bytes = _bytes(size + 2 * MARGIN + 64)
        self._bytes[:] = 0xFF
        self._begin = MARGIN + -(self._bytes.ctypes.data + MARGIN) % 64
        self._end = self._begin + content.nbytes
        view = self._bytes[self._begin : self._end]
        view[:] = content.reshape(-1).view(np.uint8)
        self.array = view.view(content.dtype).reshape(content.shape)

    @property
    def address(self) -> int:
        return self._bytes.ctypes.data + self._begin

    def margins_are_untouched(self) -> bool:
        return bool((self._bytes[: self._begin] == 0xFF).all()) and bool(
            (self._bytes[self._end :] == 0xFF).all()
        )


def unset(*shape: int, dtype: Any = np.float32) -> Memory:
    """An output that nothing was written to: NaNs, or -1."""
    memory = Memory(np.zeros(shape, dtype))
    memory.array.reshape(-1).view(np.uint8)[:] = 0xFF
    return memory


def count(n: int) -> Memory:
    return Memory(np.array([n], np.int32))


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def launch(
    operation: str,
    wave: int,
    grid: tuple[int, ...],
    variant: str = "",
    threads: int = THREADS,
    **fields: Any,
) -> None:
    """Runs rf_<operation>[_<variant>]_w<wave>. Fields left out are null or 0."""
    args = _structs()[operations()[operation][1]]()
    for name, value in fields.items():
        setattr(args, name, value.address if isinstance(value, Memory) else value)
    kernel = "_".join(filter(None, ["rf", operation, variant, f"w{wave}"]))
    run(kernel, args, grid, (threads, 1, 1))
    for name, value in fields.items():
        assert not isinstance(value, Memory) or value.margins_are_untouched(), name


def run(
    kernel: str,
    args: ctypes.Structure,
    grid: tuple[int, ...],
    block: tuple[int, int, int] = (THREADS, 1, 1),
    shared_bytes: int = 0,
) -> None:
    if EMULATED:
        machine().launch(kernel, bytes(args), (*grid, 1, 1)[:3], block[0])
        return
    if DEVICE is not None:
        driver, stream = _device()
        y, z = (*grid[1:], 1, 1)[:2]
        driver.launch(kernel, bytes(args), grid[0], block[0], stream, y, z)
        stream.synchronize()
        return
    error = ctypes.create_string_buffer(1000)
    failed = _library().rf_host_launch(
        kernel.encode(),
        ctypes.byref(args),
        ctypes.sizeof(args),
        (ctypes.c_uint32 * 3)(*grid, *[1] * (3 - len(grid))),
        (ctypes.c_uint32 * 3)(*block),
        shared_bytes,
        error,
        len(error),
    )
    if failed:
        raise KernelError(error.value.decode())


def struct(name: str, **fields: Any) -> ctypes.Structure:
    return _structs()[name](**fields)
