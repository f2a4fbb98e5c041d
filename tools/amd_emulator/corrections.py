"""Where the emulator is wrong about instructions of this project's kernels, in code of our own.

- It reads the first operand of a data parallel primitive (DPP) lane by lane while it writes the
  result, which is wrong where both are one register, and does not know all controls. Here that
  operand is what wave_loop.c has put into the place of scratch memory, which no kernel has.
- 16 bits at an odd address come from the wrong bytes: read them one by one.
"""

from __future__ import annotations

from typing import Any, Final

SNAPSHOT: Final = 4  # the memory of a wave that the operand is in
_ALL_ROWS_AND_BANKS: Final = 0xF
_KNOWN_CONTROLS: Final = (*range(0x100), *range(0x101, 0x130), 0x140, 0x141, *range(0x150, 0x170))


def correct(emu: Any, parser: type[Any]) -> None:
    """Replaces parts of the module `emu` and of what reads its pseudo-code."""
    emu._load_dpp16_src0 = _dpp_operand(emu)
    parser._handle_mem_load = _load_of_any_alignment(emu, parser._handle_mem_load)  # type: ignore[attr-defined]


def _dpp_operand(emu: Any) -> Any:
    snapshot = emu.UOp.param(SNAPSHOT, emu.dtypes.uint32, (64,))

    def operand(_ctx: Any, inst: Any, lane: Any, _fallback: Any) -> Any:
        if (inst.row_mask, inst.bank_mask) != (_ALL_ROWS_AND_BANKS, _ALL_ROWS_AND_BANKS):
            msg = "DPP of some rows or banks"
            raise NotImplementedError(msg)
        if not inst.bc or getattr(inst, "fi", 0) or inst.dpp not in _KNOWN_CONTROLS:
            msg = f"DPP control 0x{inst.dpp:x} without zeros for lanes that are not there"
            raise NotImplementedError(msg)
        return snapshot.index(lane).load()

    return operand


def _load_of_any_alignment(emu: Any, load: Any) -> Any:
    types = emu.dtypes

    def of_any_alignment(self: Any, address: Any, kind: Any) -> Any:
        if kind not in (types.uint16, types.int16):
            return load(self, address, kind)
        low, high = (
            load(self, place, types.uint8).cast(types.uint32)
            for place in (address, address + emu.UOp.const(1, address.dtype))
        )
        return (low | high * emu.UOp.const(256, types.uint32)).cast(types.uint16).bitcast(kind)

    return of_any_alignment
