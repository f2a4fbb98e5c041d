"""`rocmforge --version` and `rocmforge --cmake-dir`."""

from __future__ import annotations

from pathlib import Path

import rocmforge
from rocmforge import _native
from rocmforge.cli.terminal import write
from rocmforge.errors import UnsupportedError


def show_version() -> None:
    """What was built: version, commit, instruction sets of the CPU kernels, GPU targets."""
    build = _native.BUILD
    write(f"rocmforge {build.version} (commit {build.commit})\n")
    write(f"CPU kernels: {', '.join(build.isas)}\n")
    write(f"GPU targets: {', '.join(gpu_targets()) or 'none'}\n")


def show_cmake_dir(package: Path = Path(rocmforge.__file__).parent) -> None:
    """Where find_package(rocmforge) of CMake finds the library and headers for C++ programs.

    Raises UnsupportedError if this installation lacks them.
    """
    folder = package / "cmake"
    if not (folder / "rocmforge-config.cmake").is_file():
        msg = f"this installation has no library for C++ programs: there is no {folder}"
        raise UnsupportedError(msg)
    write(f"{folder}\n")


def gpu_targets(package: Path = Path(rocmforge.__file__).parent) -> list[str]:
    """Those with a code object in the package."""
    files = (package / "kernels").glob("*")
    return sorted(file.stem for file in files if file.suffix in {".hsaco", ".cubin"})
