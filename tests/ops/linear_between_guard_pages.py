"""Runs every linear kernel of one ISA on buffers that touch unmapped pages on both sides.

A program rather than a test: an access out of bounds ends the process (test_linear_guards.py).
Usage: linear_between_guard_pages.py ISA
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np

from rocmforge import _native

PAGE = mmap.PAGESIZE
PROT_NONE = 0
LIBC = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """Mappings whose first and last page cannot be touched; kept alive with their arrays."""

    def __init__(self) -> None:
        self.maps: list[mmap.mmap] = []

    def array(self, like: np.ndarray, *, at_end: bool) -> np.ndarray:
        """A copy of `like` that ends (or begins) exactly at an unmapped page."""
        size = -(-like.nbytes // PAGE) * PAGE
        memory = mmap.mmap(-1, size + 2 * PAGE)
        self.maps.append(memory)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for guard in (address, address + PAGE + size):
            if LIBC.mprotect(ctypes.c_void_p(guard), PAGE, PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        offset = PAGE + (size - like.nbytes if at_end else 0)
        copy = np.frombuffer(memory, like.dtype, like.size, offset).reshape(like.shape)
        copy[...] = like
        return copy


def check(name: str, isa: str, rows: int, cols: int, k: int, *, at_end: bool) -> None:
    _, weights, block_bytes = _native.FORMATS[name]
    rng = np.random.default_rng(k)
    guarded = Guarded()
    data = rng.integers(0, 64, (rows, k // weights * block_bytes), dtype=np.uint8)
    w = guarded.array(data, at_end=at_end)
    x = guarded.array(rng.normal(size=(cols, k)).astype(np.float32), at_end=at_end)
    y = guarded.array(np.empty((cols, rows), np.float32), at_end=at_end)
    decoded = guarded.array(np.empty((rows, k), np.float32), at_end=at_end)
    kernels = _native.cpu
    kernels.dequantize(name, w, isa, decoded)
    kernels.linear(name, w, x, isa, "float", None, y)
    if isa == "amx":
        kernels.Gemm(isa)(name, w, x, out=y)
    if weights > 1:
        blocks = kernels.quantize(np.asarray(x), isa)
        kernels.quantize(x, isa, guarded.array(blocks, at_end=at_end))
    kernels.linear(name, w, x, isa, "auto", None, y)


def main(isa: str) -> None:
    for name, (_, weights, _) in _native.FORMATS.items():
        unit = max(weights, 32)
        lengths = [unit, 2 * unit, 3 * unit, 9 * unit] if weights > 1 else [1, 7, 16, 31, 257, 300]
        for k in lengths:
            for rows, cols in ((1, 1), (3, 2), (9, 5), (16, 4)):
                for at_end in (True, False):
                    sys.stdout.write(f"{name} rows {rows} cols {cols} k {k} at_end {at_end}\n")
                    sys.stdout.flush()
                    check(name, isa, rows, cols, k, at_end=at_end)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(sys.argv[1])
