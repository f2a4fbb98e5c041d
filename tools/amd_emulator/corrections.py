"""Where the emulator is wrong about instructions of this project's kernels, in code of our own.

- It reads the first operand of a data parallel primitive (DPP) lane by lane while it writes the
  result, which is wrong where both are one register, and does not know all controls. Here that
  operand is what wave_loop.c has put into the place of scratch memory, which no kernel has.
- 16 bits at an odd address come from the wrong bytes: read them one by one. 32 bits go to the
  address rounded down to a multiple of four: store bytes, which compilers leave to the hardware.
- Operands of 24 bits (S0.i24, S0.u24 of v_mul_i32_i24, v_mad_u32_u24 and the like) are all 32 bits
  without a sign there: the high half of -24 * 1 was 0.
- Of gfx9's LDS instructions, the bit that says that data are in accumulators (AGPRs) counts for
  reads alone: what is written came from the vector register of the same number.
- In 16-bit operations, v128 and those behind it are the high halves of v0 and on, which is gfx11's
  way. On gfx9 they are themselves.
- Operands with a selected part (SDWA) lose their signs: -v2 with WORD_1 was v2.
- Atomics return nothing but on gfx11, and touch memory for lanes that are switched off, at whatever
  their registers hold. Such lanes have offset 0 here.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

# Memories of a wave: what the operand is in, and all of the process by bytes.
SNAPSHOT: Final = 4
BYTES: Final = 6
_ALL_ROWS_AND_BANKS: Final = 0xF
_KNOWN_CONTROLS: Final = (*range(0x100), *range(0x101, 0x130), 0x140, 0x141, *range(0x150, 0x170))


def correct(emu: Any, parser: type[Any]) -> None:
    """Replaces parts of the module `emu` and of what reads its pseudo-code."""
    emu._load_dpp16_src0 = _dpp_operand(emu)
    parser._handle_mem_load = _load_of_any_alignment(emu, parser._handle_mem_load)  # type: ignore[attr-defined]
    emu._mem_store = _store_of_any_alignment(emu)
    handlers = emu._INST_HANDLERS
    handlers[emu.irc.DS] = _lds_of_accumulators(emu)
    for kind in (emu.irc.VOP1, emu.irc.VOP2, emu.irc.VOPC):
        handlers[kind] = _whole_registers(emu, handlers[kind])
    for kind in (emu.irc.VOP1_SDWA, emu.irc.VOP2_SDWA, emu.irc.VOP2_SDWA_SDST):
        handlers[kind] = _signs_of_selected_parts(emu, handlers[kind])
    for kind in (emu.ir3.GLOBAL, emu.ir4.VGLOBAL, emu.irc.GLOBAL):
        handlers[kind] = _atomics_that_return(emu)
    parser._handle_dot = _field_of_24_bits(emu, parser._handle_dot)  # type: ignore[attr-defined]


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


def _store_of_any_alignment(emu: Any) -> Any:
    memory = emu.UOp.param(BYTES, emu.dtypes.uint8, (1 << 48,))

    def store(_memory: Any, address: Any, value: Any, active: Any, _: int, bits: int = 32) -> Any:
        return emu._mem_store_bytes(memory, address, value, active, bits)

    return store


def _field_of_24_bits(emu: Any, field_of: Any) -> Any:
    types = emu.dtypes

    def field(self: Any, base: Any, name: str) -> Any:
        if name not in ("i24", "u24"):
            return field_of(self, base, name)
        low = base.cast(types.uint32) & emu.UOp.const(0xFFFFFF, types.uint32)
        if name == "u24":
            return low
        sign = emu.UOp.const(0x800000, types.uint32)
        return ((low ^ sign) - sign).bitcast(types.int)

    return field


def _lds_of_accumulators(emu: Any) -> Any:
    class DataInAccumulators(emu._Ctx):  # type: ignore[misc]
        __slots__ = ()

        def rvgpr_dyn(self, register: Any, *where: Any) -> Any:
            is_address = register is self.inst_field(emu.irc.DS.addr)
            read = super().rvgpr_dyn if is_address else self.raccvgpr_dyn
            return read(register, *where)

    def compile_lds(instruction: Any, context: Any) -> Any:
        if instruction.acc:
            context.__class__ = DataInAccumulators
        return emu._compile_mem_op(instruction, context)

    return compile_lds


def _whole_registers(emu: Any, compile_one: Any) -> Any:
    """Widths of 16 become -16, which is a half of no register; constants have theirs all the same."""

    class WholeRegisters(emu._Ctx):  # type: ignore[misc]
        __slots__ = ()

        def rsrc_dyn(self, operand: Any, lane: Any, bits: int = 32, *rest: Any) -> Any:
            return super().rsrc_dyn(operand, lane, abs(bits), *rest)

    def compile_whole(instruction: Any, context: Any) -> Any:
        widths = instruction.canonical_op_bits
        instruction.canonical_op_bits = {
            name: -16 if width == 16 else width for name, width in widths.items()
        }
        context.__class__ = WholeRegisters
        return compile_one(instruction, context)

    return compile_whole


def _signs_of_selected_parts(emu: Any, compile_one: Any) -> Any:
    select = emu._sdwa_select

    def compile_signed(instruction: Any, context: Any) -> Any:
        if emu._iattr(instruction, "omod") or emu._iattr(instruction, "clmp"):
            msg = f"{emu._op_name(instruction)} of selected parts with a changed result"
            raise NotImplementedError(msg)
        numbers = itertools.count()  # of the operands, which are selected in turns

        def select_signed(value: Any, part: Any, is_signed: Any) -> Any:
            operand = f"src{next(numbers)}"
            sign = 1 << instruction.canonical_op_bits[operand.replace("rc", "")] - 1
            value = select(value, part, is_signed)
            if emu._iattr(instruction, f"{operand}_abs"):
                value &= emu.UOp.const(0xFFFFFFFF ^ sign, emu.dtypes.uint32)
            if emu._iattr(instruction, f"{operand}_neg"):
                value ^= emu.UOp.const(sign, emu.dtypes.uint32)
            return value

        emu._sdwa_select = select_signed
        try:
            return compile_one(instruction, context)
        finally:
            emu._sdwa_select = select

    return compile_signed


def _atomics_that_return(emu: Any) -> Any:
    class ActiveLanes(emu._Ctx):  # type: ignore[misc]
        __slots__ = ()

        def rvgpr_dyn(self, register: Any, lane: Any, *rest: Any) -> Any:
            value = super().rvgpr_dyn(register, lane, *rest)
            is_active = emu._lane_active(self.rexec(), lane)
            return is_active.where(value, emu.UOp.const(0, emu.dtypes.uint32))

    def compile_global(instruction: Any, context: Any) -> Any:
        if "ATOMIC" in emu._op_name(instruction):
            names = ("glc", "sc0", "th")  # gfx11, gfx9, gfx12; of the last the lowest bit
            instruction.glc = any(emu._iattr(instruction, name) & 1 for name in names)
            context.__class__ = ActiveLanes
        return emu._compile_mem_op(instruction, context)

    return compile_global
