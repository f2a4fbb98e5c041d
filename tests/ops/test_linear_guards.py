"""No linear kernel touches a byte outside its operands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("linear_between_guard_pages.py")


def test_kernels_stay_between_guard_pages(isa: str) -> None:
    """A read or write outside ends the child with SIGSEGV; its last line names the case."""
    child = subprocess.run(
        [sys.executable, str(PROGRAM), isa],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    last = child.stdout.splitlines()[-1:]
    assert (child.returncode, last) == (0, ["done"]), child.stderr[-2000:]
