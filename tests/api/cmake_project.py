"""Builds a CMake project against the installed package, as a user's own would be."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def built(source: Path, build: Path) -> Path:
    """The folder with the project's programs."""
    for tool in ("cmake", "ninja", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    where = subprocess.run(
        [sys.executable, "-m", "rocmforge", "--cmake-dir"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    configure = ["cmake", "-S", source, "-B", build, "-G", "Ninja", f"-Drocmforge_DIR={where}"]
    for command in (configure, ["cmake", "--build", build]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build
