"""Runs the kernel tests as AMD machine code: emulate_kernels.py [TARGET...].

Compiles every kernel for a target and has tests/kernels launch them in tools/amd_emulator, which
needs $TINYGRAD (see machine.py there) and the installed package with its test dependencies. Fails
with the tests, and if a kernel of the code object was never launched.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kernel_compilers import ROOT, build

DEFAULT_TARGETS = ("gfx1100", "gfx1201", "gfx942")
# test_host_launch.py is about the emulation of blocks and threads on the host.
KERNEL_TESTS = (
    str(ROOT / "tests/kernels"),
    f"--ignore={ROOT / 'tests/kernels/test_host_launch.py'}",
)
# A quotient that is the smallest normal number comes out of the emulator's v_div_scale and
# v_div_fmas below it.
NOT_EMULATED = "not is_hard_to_quantize"


def run_here(target: str, code_object: str, arguments: list[str]) -> int:
    """The tests of one target in this process; 0 if they pass and no kernel is left out."""
    os.environ["ROCMFORGE_KERNEL_DEVICE"] = f"emulator:{target}:{code_object}"
    import pytest

    start = time.monotonic()
    # What tinygrad warns of is none of these tests' business.
    selection = ["-q", "-W", "ignore", "-k", NOT_EMULATED, *KERNEL_TESTS, *arguments]
    failed = int(pytest.main(selection))
    machine = sys.modules["host_kernels"].machine()
    missing = sorted(set(machine.code.kernels) - set(machine.executed))
    total = sum(machine.executed.values())
    print(
        f"{target}: {len(machine.executed)} of {len(machine.code.kernels)} kernels, {total} "
        f"instructions of waves, {time.monotonic() - start:.0f} s"
    )
    for kernel in missing:
        print(f"{target}: {kernel} was never launched")
    return failed or int(bool(missing) and not arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=DEFAULT_TARGETS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--code-object", help="of the one target, instead of compiling it")
    parser.add_argument("--pytest", nargs=argparse.REMAINDER, default=[], help="more of pytest's")
    options = parser.parse_args()
    if options.code_object:
        (target,) = options.targets
        sys.exit(run_here(target, options.code_object, options.pytest))
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for target in options.targets:
            path = build(target, Path(folder), options.jobs)
            command = [sys.executable, __file__, target, "--code-object", str(path)]
            command += ["--pytest", *options.pytest] if options.pytest else []
            if subprocess.run(command, check=False).returncode != 0:
                failed.append(target)
    if failed:
        sys.exit(f"failed for {', '.join(failed)}")


if __name__ == "__main__":
    main()
