"""Compiles every kernel for AMD targets and checks what came out: check_kernels.py [TARGET...|all].

Fails on scratch memory, spilled registers, calls that need a stack, loads and stores whose address
space is unknown (flat), more shared memory than a workgroup has; on more vector registers than
RF_EXPECT beside the kernel allows or without the instructions it names; on kernels that kernels.def
lists and the code object lacks, or the other way round.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from kernel_compilers import KERNELS, ROOT, all_amd_targets, build, sources, tool

DEFAULT_TARGETS = ("gfx1100", "gfx1201", "gfx942")
MAX_SHARED_BYTES = 65536
INSTRUCTIONS = {
    "dot4": re.compile(r"v_dot4c?_i32_i(8|u8)"),
    "load16": re.compile(r"global_load_(b128|dwordx4)"),
    "mma": re.compile(r"v_(wmma_f32_16x16x16|mfma_f32_16x16x(16|8))_?b?f16"),
}
MATRIX_KINDS = ("_MMA", "_DIRECT", "_MATRIX", "_GEMM", "_ATTEND_MMA")
TOO_LARGE = {("attend_mma", "bf16_d128"), ("attend_mma", "q8_0_d128")}  # for gfx11's registers
CACHES = ("f32", "f16", "bf16", "q8_0")
STEP_COLUMNS = (1, 4)


class Expectation(NamedTuple):
    pattern: str
    vgprs: int
    instructions: tuple[str, ...]


class Kernel(NamedTuple):
    name: str
    vgprs: int
    spills: int
    scratch: int
    shared: int
    dynamic_stack: bool


def expectations() -> list[Expectation]:
    found = []
    for source in sources():
        for arguments in re.findall(r"^RF_EXPECT\(([^)]*)\)", source.read_text(), re.MULTILINE):
            pattern, vgprs, *instructions = (part.strip(' "') for part in arguments.split(","))
            found.append(Expectation(pattern, int(vgprs), tuple(instructions)))
    return found


def has_matrix_cores(target: str) -> bool:
    return not re.match(r"gfx(906|10)", target)


def expected_kernels(target: str, wave: int) -> set[str]:
    """Names by kernels.def and formats.def."""
    formats = re.findall(
        r"^RF_FORMAT\((\w+),.*?(kFloat|kQ8x32)\)",
        (ROOT / "native/quant/formats.def").read_text(),
        re.MULTILINE,
    )
    names = set()
    without = () if has_matrix_cores(target) else MATRIX_KINDS
    for kind, operation in re.findall(
        r"^RF_KERNEL(\w*)\((\w+),", (KERNELS / "kernels.def").read_text(), re.MULTILINE
    ):
        if kind in without:
            continue
        names |= {
            "_".join(filter(None, ["rf", operation, variant, f"w{wave}"]))
            for variant in _variants(kind, operation, formats)
            if (operation, variant) not in TOO_LARGE or not target.startswith("gfx11")
        }
    return names


def _variants(kind: str, operation: str, formats: list[tuple[str, str]]) -> list[str]:
    if kind == "_FORMATS":
        return [name for name, _ in formats]
    if kind == "_LINEAR":
        integer = operation == "linear_q8"
        usable = [name for name, activation in formats if not integer or activation == "kQ8x32"]
        return [f"{name}_c{columns}" for name in usable for columns in (1, 4, 8)]
    if kind in ("_MMA", "_DIRECT"):
        usable = [name for name, activation in formats if activation == "kQ8x32"]
        widths = (16, 32, 64) if kind == "_MMA" else (16, 32)
        return [f"{name}_c{columns}" for name in usable for columns in widths]
    if kind == "_MATRIX":
        return [""]
    if kind == "_QUANTIZED":
        return [name for name, activation in formats if activation == "kQ8x32"]
    if kind == "_GEMM":
        return ["r128", "r256"]
    if kind == "_ATTEND_MMA":
        return [f"{cache}_d{dim}" for cache in CACHES[1:] for dim in (64, 128)]
    if kind == "_CACHE":
        return list(CACHES)
    if kind == "_PREFILL":
        return [f"{cache}_d{dim}" for cache in CACHES for dim in (64, 128, 256)]
    if kind == "_DECODE":
        return [f"{cache}_g{group}" for cache in CACHES for group in (1, 2, 4, 8)]
    if kind == "_STEP":
        return [f"c{columns}" for columns in STEP_COLUMNS]
    if kind == "_STEP_FORMATS":
        names = re.findall(
            r"^RF_STEP_FORMAT\((\w+),",
            (KERNELS / "include/step_formats.def").read_text(),
            re.MULTILINE,
        )
        return [f"{name}_c{columns}" for name in names for columns in STEP_COLUMNS]
    if kind == "_STEP_CACHE":
        return [
            f"{cache}_d{dim}_g{group}"
            for cache in CACHES
            for dim in (64, 128)
            for group in (1, 2, 4)
        ]
    if kind:
        msg = f"kernels.def: unknown entry RF_KERNEL{kind}"
        raise ValueError(msg)
    return [""]


def read_metadata(path: Path) -> list[Kernel]:
    notes = subprocess.run(
        [tool("llvm-readelf"), "--notes", path], capture_output=True, text=True, check=True
    ).stdout
    kernels = []
    for entry in re.split(r"^  - \.a(?:gpr_count|rgs):", notes, flags=re.MULTILINE)[1:]:
        fields = dict(re.findall(r"^    \.(\w+): +(\S+)", entry, re.MULTILINE))
        kernels.append(
            Kernel(
                name=fields["name"],
                vgprs=int(fields["vgpr_count"]),
                spills=int(fields["vgpr_spill_count"]) + int(fields["sgpr_spill_count"]),
                scratch=int(fields["private_segment_fixed_size"]),
                shared=int(fields["group_segment_fixed_size"]),
                dynamic_stack=fields.get("uses_dynamic_stack") == "true",
            )
        )
    return kernels


def disassemble(path: Path, target: str) -> dict[str, Counter[str]]:
    """How often each instruction occurs, by kernel."""
    text = subprocess.run(
        [tool("llvm-objdump"), "-d", "--no-show-raw-insn", f"--mcpu={target}", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: dict[str, Counter[str]] = {}
    for line in text.splitlines():
        if label := re.fullmatch(r"[0-9a-f]+ <(\w+)>:", line):
            current = found.setdefault(label.group(1), Counter())
        elif line.startswith("\t"):
            current[line.split(maxsplit=1)[0]] += 1
    return found


def check(kernel: Kernel, instructions: Counter[str], expectation: Expectation | None) -> list[str]:
    """What is wrong with one kernel."""
    problems = []
    if kernel.scratch or kernel.dynamic_stack:
        problems.append(f"{kernel.scratch} bytes of scratch memory")
    if kernel.spills:
        problems.append(f"{kernel.spills} spilled registers")
    if kernel.shared > MAX_SHARED_BYTES:
        problems.append(f"{kernel.shared} bytes of shared memory")
    flat = sum(n for name, n in instructions.items() if name.startswith(("flat_", "scratch_")))
    if flat:
        problems.append(f"{flat} flat or scratch accesses")
    if expectation is None:
        return [*problems, "no RF_EXPECT beside it"]
    if kernel.vgprs > expectation.vgprs:
        problems.append(f"{kernel.vgprs} vector registers, budget {expectation.vgprs}")
    for wanted in expectation.instructions:
        if not any(INSTRUCTIONS[wanted].match(name) for name in instructions):
            problems.append(f"no {wanted}")
    return problems


def check_target(path: Path, target: str) -> list[str]:
    kernels, instructions = read_metadata(path), disassemble(path, target)
    wave = 64 if target.startswith("gfx9") else 32
    names, expected = {kernel.name for kernel in kernels}, expected_kernels(target, wave)
    problems = [f"{name}: missing" for name in sorted(expected - names)]
    problems += [f"{name}: not in kernels.def" for name in sorted(names - expected)]
    wanted = expectations()
    used = set()
    for kernel in kernels:
        short = kernel.name.removeprefix("rf_").removesuffix(f"_w{wave}")
        match = next((e for e in wanted if fnmatch.fnmatchcase(short, e.pattern)), None)
        used.add(match)
        problems += [f"{kernel.name}: {p}" for p in check(kernel, instructions[kernel.name], match)]
    if not has_matrix_cores(target):
        wanted = [e for e in wanted if "mma" not in e.instructions]
    problems += [f"RF_EXPECT({e.pattern}): of no kernel" for e in wanted if e not in used]
    most = max(kernels, key=lambda kernel: kernel.vgprs)
    print(
        f"{target}: {len(kernels)} kernels, {path.stat().st_size} bytes, "
        f"most vector registers {most.vgprs} ({most.name})"
    )
    return [f"{target}: {problem}" for problem in problems]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=DEFAULT_TARGETS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        targets = all_amd_targets() if options.targets == ["all"] else options.targets
        for target in targets:
            try:
                path = build(target, Path(folder), options.jobs)
            except subprocess.CalledProcessError as error:
                sys.exit(f"{' '.join(error.cmd)}\n{error.stdout}{error.stderr}")
            problems += check_target(path, target)
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
