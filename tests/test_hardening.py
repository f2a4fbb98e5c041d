"""What the linker and the compiler were asked for is in the libraries that were built."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import rocmforge

ROOT = Path(rocmforge.__file__).parent
LIBRARIES = sorted([*ROOT.rglob("*.so"), *ROOT.parent.glob("rocmforge.libs/*.so")])
# Hold the code that reads files and arguments.
CORE = [path for path in LIBRARIES if path.name.startswith(("_native.", "librocmforge."))]


def readelf(path: Path, *options: str) -> str:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    command = ["readelf", "-W", *options, path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_all_compiled_parts_are_looked_at() -> None:
    assert len(CORE) == 2
    assert len(LIBRARIES) >= 6


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.name.partition(".")[0])
def test_tables_of_addresses_are_read_only_and_no_stack_is_code(path: Path) -> None:
    segments = readelf(path, "--segments")
    assert "GNU_RELRO" in segments
    stack = re.search(r"GNU_STACK .* (R\S*)\s+0x", segments)
    assert stack is not None
    assert "E" not in stack[1]
    assert re.search(r"BIND_NOW|FLAGS_1\).*NOW", readelf(path, "--dynamic"))


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name.partition(".")[0])
def test_stacks_copies_and_containers_are_checked(path: Path) -> None:
    symbols = readelf(path, "--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert "__glibcxx_assert_fail" in symbols
