"""A code object in memory: the segments of an ELF file and the descriptors of its kernels.

Formats: LLVM's "User Guide for AMDGPU Backend", sections ELF Code Object, Kernel Descriptor and
Initial Kernel Execution State.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

_LOAD: Final = 1
_DYNSYM: Final = 11
_RELOCATIONS: Final = (4, 9)
_PROPERTY_KERNARG: Final = 1 << 3
_PROPERTY_WAVE32: Final = 1 << 10
_PROPERTY_DYNAMIC_STACK: Final = 1 << 11


class Kernel(NamedTuple):
    name: str
    entry: int  # address
    shared_bytes: int
    args_bytes: int
    num_user_sgprs: int
    has_args_pointer: bool
    num_preloaded: int  # dwords of the arguments that are in SGPRs at the start
    group_ids: tuple[bool, bool, bool]  # which of x, y, z are in SGPRs
    wave: int
    flushes_subnormals: bool  # of float32


class CodeObject:
    """Raises ValueError for what the kernels of this project never have."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        if data[:5] != b"\x7fELF\x02":
            msg = f"{path} is no 64-bit ELF file"
            raise ValueError(msg)
        program, section = struct.unpack_from("<QQ", data, 32)
        entry_size, num_programs, section_size, num_sections = struct.unpack_from("<4H", data, 54)
        loads = []
        for i in range(num_programs):
            fields = struct.unpack_from("<IIQQQQQQ", data, program + i * entry_size)
            if fields[0] == _LOAD:
                loads.append((fields[2], fields[3], fields[5], fields[6]))
        self.size = max(address + size for _, address, _, size in loads)
        # Instructions are fetched 16 bytes at a time: the last one has something behind it.
        self._memory = mmap.mmap(-1, self.size + 4096)
        self.base: int = np.frombuffer(self._memory, np.uint8).ctypes.data
        for offset, address, file_size, _ in loads:
            self._memory[address : address + file_size] = data[offset : offset + file_size]
        sections = [
            struct.unpack_from("<IIQQQQII", data, section + i * section_size)
            for i in range(num_sections)
        ]
        if any(fields[1] in _RELOCATIONS for fields in sections):
            msg = f"{path} has relocations"
            raise ValueError(msg)
        (symbols,) = [fields for fields in sections if fields[1] == _DYNSYM]
        strings = sections[symbols[6]][4]
        self.kernels: dict[str, Kernel] = {}
        for offset in range(symbols[4], symbols[4] + symbols[5], 24):
            name_at, _, _, _, address, _ = struct.unpack_from("<IBBHQQ", data, offset)
            name = data[strings + name_at : data.index(b"\0", strings + name_at)].decode()
            if name.endswith(".kd"):
                kernel = self._kernel(name.removesuffix(".kd"), address)
                self.kernels[kernel.name] = kernel

    def _kernel(self, name: str, address: int) -> Kernel:
        descriptor = self._memory[address : address + 64]
        shared, private, args, _, entry = struct.unpack_from("<IIIIq", descriptor, 0)
        _, resources1, resources2, properties, preload = struct.unpack_from(
            "<IIIHH", descriptor, 44
        )
        allowed = _PROPERTY_KERNARG | _PROPERTY_WAVE32
        if private or properties & ~allowed:
            msg = f"{name} needs scratch memory or more than its arguments (0x{properties:x})"
            raise ValueError(msg)
        return Kernel(
            name=name,
            entry=self.base + address + entry,
            shared_bytes=shared,
            args_bytes=args,
            num_user_sgprs=resources2 >> 1 & 0x1F,
            has_args_pointer=bool(properties & _PROPERTY_KERNARG),
            num_preloaded=preload & 0x7F,
            group_ids=tuple(bool(resources2 >> bit & 1) for bit in (7, 8, 9)),  # type: ignore[arg-type]
            wave=32 if properties & _PROPERTY_WAVE32 else 64,
            flushes_subnormals=(resources1 >> 16 & 3) == 0,
        )
