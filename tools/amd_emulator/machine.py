"""Executes the machine code of AMD GPUs on this CPU, kernel by kernel.

What an instruction does comes from tinygrad's emulator (test/mockgpu/amd in its repository, not in
its package), which compiles AMD's published pseudo-code; $TINYGRAD names a checkout at commit
a9069c177. This is what a runtime and a command processor add: code in memory, the registers a wave
begins with, shared memory, waves that meet at barriers.

Pointers are those of this process. Registers and shared memory begin as NaNs, as garbage would. It
proves results and which instructions are there; neither speed nor the absence of races: waves run
one after the other.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
from code_object import CodeObject, Kernel

TINYGRAD_COMMIT: Final = "a9069c177"
_ARCHITECTURES: Final = {"gfx9": "cdna", "gfx11": "rdna3", "gfx12": "rdna4"}
# buffer_gl0_inv and buffer_gl1_inv, which the emulator does not decode: encoding and opcode.
_CACHE_CONTROL: Final = {"rdna3": (0x38 << 8 | 43, 0x38 << 8 | 44)}
_NOTHING_TO_DO: Final = {"GLOBAL_INV", "GLOBAL_WB", "GLOBAL_WBINV", "BUFFER_INV", "BUFFER_WBL2"}
_SHARED_LIMIT: Final = 65536
_PRIVATE_UNRESERVED: Final = 0x4002  # MAP_PRIVATE, MAP_NORESERVE of Linux, which mmap names late
_MAX_INSTRUCTIONS: Final = 1 << 34
_ENDED, _AT_BARRIER, _NOT_COMPILED = range(3)
_CALL, _BARRIER, _SKIP, _GET_PC, _SWIZZLE, _DPP, _MOVE_RELATIVE, _MATRIX = range(1, 9)
# Scalar registers, vector registers, memory, shared, scratch, accumulators, memory by bytes.
_NUM_MEMORIES: Final = 7
_EXEC, _PC, _TTMP7, _TTMP9 = 126, 256, 115, 117
_NULL: Final = 124  # M0 of CDNA, which begins as anything
_S_GETPC: Final = {"rdna3": 0xBE804700, "rdna4": 0xBE804700, "cdna": 0xBE801C00}
_M0: Final = 125  # of RDNA
_MATRIX_PRODUCTS: Final = tuple(
    f"V_{name}_F32_16X16X16_{kind}" for name in ("WMMA", "MFMA") for kind in ("BF16", "F16")
)
# Of gfx9: the operand of s_set_gpr_idx_on, v_mov_b32, s_set_gpr_idx_off.
_INDEXES_DESTINATION, _VOP1_MASK, _V_MOV, _IDX_OFF = 8, 0xFE01FE00, 0x7E000200, 0xBF9C0000
_SOP1_MASK: Final = 0xFF80FFFF


class Fault(Exception):
    """The code did what no kernel may."""


class _Place(ctypes.Structure):
    _fields_ = [
        ("run", ctypes.c_void_p),
        ("kind", ctypes.c_uint8),
        ("bytes", ctypes.c_uint8),
        ("memory", ctypes.c_uint8 * _NUM_MEMORIES),
        ("destination", ctypes.c_uint8),
        ("source", ctypes.c_uint8),
        ("control", ctypes.c_uint16),
        ("operands", ctypes.c_uint16 * 3),
    ]


def _wave_loop() -> Any:
    source = Path(__file__).with_name("wave_loop.c")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "wave_loop.so"
        command = [os.environ["CC"], "-O2", "-shared", "-fPIC", str(source), "-o", str(library)]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(library)).run_wave


def _emulator() -> Any:
    checkout = os.environ.get("TINYGRAD")
    if not checkout or not (Path(checkout) / "test/mockgpu/amd/emu.py").is_file():
        msg = f"TINYGRAD has to name a checkout of tinygrad's repository at {TINYGRAD_COMMIT}"
        raise FileNotFoundError(msg)
    os.environ.setdefault("CC", "clang-19")
    os.environ.setdefault("DEV", "CPU:CLANG:x86_64,x86-64-v3")
    sys.path.insert(0, checkout)
    from corrections import correct
    from test.mockgpu.amd import emu, pcode

    correct(emu, pcode.Parser)
    return emu


class _Wave:
    """Registers, and the addresses of everything the wave's instructions touch."""

    def __init__(self, size: int, num_sgprs: int, shared: int) -> None:
        self.size = size
        self.sgprs = np.empty(num_sgprs, np.uint32)
        self.vgprs = np.empty((256, size), np.uint32)
        self.accumulators = np.empty((256, size), np.uint32)
        self.snapshot = np.empty(64, np.uint32)
        places = [self.sgprs.ctypes.data, self.vgprs.ctypes.data]
        # Memory is that of the process: its address 0 is 0.
        places += [0, shared, self.snapshot.ctypes.data, self.accumulators.ctypes.data, 0]
        self.memories = (ctypes.c_void_p * _NUM_MEMORIES)(*places)

    def reset(self, entry: int, first_thread: int, num_threads: int) -> None:
        for registers in (self.sgprs, self.vgprs, self.accumulators):
            registers[:] = 0xFFFFFFFF
        constants = self.sgprs[128:]
        constants[:65] = np.arange(65)
        constants[65:81] = -np.arange(1, 17).astype(np.int32).view(np.int32)
        floats = np.array([0.5, -0.5, 1, -1, 2, -2, 4, -4, 1 / (2 * np.pi)], np.float32)
        constants[112:121] = floats.view(np.uint32)
        active = (1 << min(self.size, num_threads - first_thread)) - 1
        self.sgprs[_EXEC], self.sgprs[_EXEC + 1] = active & 0xFFFFFFFF, active >> 32
        self.sgprs[_PC], self.sgprs[_PC + 1] = entry & 0xFFFFFFFF, entry >> 32
        self.sgprs[_NULL] = 0
        self.sgprs[258:] = 0  # condition code, scratch
        self.vgprs[0] = np.arange(first_thread, first_thread + self.size)


class Machine:
    """A code object of a target, ready to run; `executed` counts instructions of waves by kernel."""

    def __init__(self, target: str, path: Path) -> None:
        self.architecture = next(a for t, a in _ARCHITECTURES.items() if target.startswith(t))
        self.wave = 64 if self.architecture == "cdna" else 32
        self.code = CodeObject(path)
        self.executed: Counter[str] = Counter()
        self._emu = _emulator()
        self._run = _wave_loop()
        self._places = (_Place * (self.code.size // 4 + 1))()
        self._keep: list[Any] = []
        # Lanes that are switched off look anywhere in 32 bits of addresses.
        self._shared_map = mmap.mmap(-1, (1 << 32) + 4096, _PRIVATE_UNRESERVED)
        self._shared = np.frombuffer(self._shared_map, np.uint8)

    def launch(self, name: str, args: bytes, grid: tuple[int, int, int], threads: int) -> None:
        kernel = self.code.kernels[name]
        if kernel.wave != self.wave or kernel.args_bytes != len(args):
            msg = f"{name}: waves of {kernel.wave}, {kernel.args_bytes} bytes of arguments"
            raise Fault(msg)
        memory = np.frombuffer(bytearray(args + bytes(64)), np.uint8)
        waves = [
            _Wave(self.wave, self._emu.SGPR_COUNT, self._shared.ctypes.data)
            for _ in range(-(-threads // self.wave))
        ]
        for z, y, x in itertools.product(range(grid[2]), range(grid[1]), range(grid[0])):
            self._shared[:_SHARED_LIMIT] = 0xFF
            for number, wave in enumerate(waves):
                wave.reset(kernel.entry, number * self.wave, threads)
                self._set_sgprs(kernel, wave, memory, (x, y, z))
            self._run_group(kernel, waves)
            if (self._shared[kernel.shared_bytes : _SHARED_LIMIT] != 0xFF).any():
                msg = f"{name} wrote behind its {kernel.shared_bytes} bytes of shared memory"
                raise Fault(msg)

    def _set_sgprs(
        self, kernel: Kernel, wave: _Wave, args: np.ndarray, group: tuple[int, int, int]
    ) -> None:
        """Pointer to the arguments, arguments that are preloaded, numbers of the group."""
        values = []
        if kernel.has_args_pointer:
            values += [args.ctypes.data & 0xFFFFFFFF, args.ctypes.data >> 32]
        values += args[: 4 * kernel.num_preloaded].view(np.uint32).tolist()
        values += [0] * (kernel.num_user_sgprs - len(values))
        if self.architecture == "rdna4":
            wave.sgprs[_TTMP9] = group[0]
            wave.sgprs[_TTMP7] = group[1] | group[2] << 16
        else:
            values += [i for i, wanted in zip(group, kernel.group_ids, strict=True) if wanted]
        wave.sgprs[: len(values)] = values

    def _run_group(self, kernel: Kernel, waves: list[_Wave]) -> None:
        """Every wave up to the next barrier, in turns, until all have ended."""
        count = ctypes.c_uint64(0)
        while waves:
            waiting = []
            for wave in waves:
                reason = self._run_wave(kernel, wave, count)
                if reason == _AT_BARRIER:
                    waiting.append(wave)
                elif reason != _ENDED:
                    msg = f"{kernel.name}: more than {_MAX_INSTRUCTIONS} instructions"
                    raise Fault(msg)
            if waiting and len(waiting) != len(waves):
                msg = f"{kernel.name}: some waves ended where others wait at a barrier"
                raise Fault(msg)
            waves = waiting
        self.executed[kernel.name] += count.value

    def _run_wave(self, kernel: Kernel, wave: _Wave, count: ctypes.c_uint64) -> int:
        while True:
            reason: int = self._run(
                self._places,
                ctypes.c_uint64(len(self._places)),
                ctypes.c_uint64(self.code.base),
                wave.memories,
                wave.size,
                ctypes.c_uint64(_MAX_INSTRUCTIONS),
                ctypes.byref(count),
                int(kernel.flushes_subnormals),
            )
            if reason != _NOT_COMPILED:
                return reason
            pc = int(wave.sgprs[_PC]) | int(wave.sgprs[_PC + 1]) << 32
            if not self.code.base <= pc < self.code.base + self.code.size:
                msg = f"{kernel.name} left its code"
                raise Fault(msg)
            self._compile(pc)

    def _compile(self, pc: int) -> None:
        place = self._places[(pc - self.code.base) // 4]
        word = ctypes.c_uint32.from_address(pc).value
        if word >> 18 in _CACHE_CONTROL.get(self.architecture, ()):
            place.kind, place.bytes = _SKIP, 8
            return
        if word & _SOP1_MASK == _S_GETPC[self.architecture]:
            place.kind, place.bytes, place.destination = _GET_PC, 4, word >> 16 & 0x7F
            return
        image = (ctypes.c_char * 16).from_address(pc).raw
        instruction = self._emu.decode_inst(image, self.architecture)
        name = self._emu._op_name(instruction)
        if name in _NOTHING_TO_DO:
            place.kind, place.bytes = _SKIP, instruction.size()
            return
        if name == "DS_SWIZZLE_B32":
            self._compile_swizzle(place, pc)
            return
        if name == "V_MOVRELD_B32_E32":
            place.kind, place.bytes = _MOVE_RELATIVE, instruction.size()
            place.destination, place.control, place.source = word >> 17 & 0xFF, word & 0x1FF, _M0
            return
        if name.startswith(_MATRIX_PRODUCTS):
            self._compile_matrix(place, pc, is_half="_F16" in name)
            return
        if name == "S_SET_GPR_IDX_ON":
            self._compile_indexed_move(place, pc)
            return
        (program, runtime), _ = self._emu._decode_at(pc, self.architecture)
        self._keep.append(runtime)
        for i, memory in enumerate(program.arg.globals):
            place.memory[i] = memory
        place.run = ctypes.cast(runtime.fxn, ctypes.c_void_p)
        is_barrier = getattr(instruction, "op", None) in self._emu._BARRIER_OPS
        place.kind = _BARRIER if is_barrier else _CALL
        if hasattr(type(instruction), "dpp"):
            place.kind, place.control = _DPP, instruction.dpp
            place.source = ctypes.c_uint8.from_address(pc + instruction.size() - 4).value

    def _compile_matrix(self, place: _Place, pc: int, is_half: bool) -> None:
        """Encodings VOP3P and VOP3P-MAI: without modifiers they differ in the accumulators' bits."""
        low, high = (ctypes.c_uint32.from_address(pc + at).value for at in (0, 4))
        place.kind, place.bytes, place.destination = _MATRIX, 8, low & 0xFF
        place.operands[:] = high & 0x1FF, high >> 9 & 0x1FF, high >> 18 & 0x1FF
        place.control = ("rdna3", "rdna4", "cdna").index(self.architecture) | is_half << 5
        if self.architecture == "cdna":
            place.control |= (high >> 27 & 3) << 2 | (low >> 15 & 1) << 4
        if min(place.operands[:2]) < 256 or high >> 29 or low >> 8 & 7:
            msg = f"a product of matrices with modifiers: {low:08x} {high:08x}"
            raise NotImplementedError(msg)

    def _compile_indexed_move(self, place: _Place, pc: int) -> None:
        """s_set_gpr_idx_on, the move it is for, and s_set_gpr_idx_off as one."""
        on, move, off = (ctypes.c_uint32.from_address(pc + at).value for at in (0, 4, 8))
        if on >> 8 & 0xFF != _INDEXES_DESTINATION or move & _VOP1_MASK != _V_MOV or off != _IDX_OFF:
            msg = "registers indexed by another sequence than that of one move"
            raise NotImplementedError(msg)
        place.kind, place.bytes, place.source = _MOVE_RELATIVE, 12, on & 0xFF
        place.destination, place.control = move >> 17 & 0xFF, move & 0x1FF

    def _compile_swizzle(self, place: _Place, pc: int) -> None:
        low, high = (ctypes.c_uint32.from_address(pc + at).value for at in (0, 4))
        place.kind, place.bytes, place.control = _SWIZZLE, 8, low & 0xFFFF
        place.source, place.destination = high & 0xFF, high >> 24
        if place.control >> 15:
            msg = f"ds_swizzle 0x{place.control:x}, which is no exchange by bits"
            raise NotImplementedError(msg)
