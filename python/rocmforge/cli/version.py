"""`rocmforge --version`."""

from __future__ import annotations

from pathlib import Path

import rocmforge
from rocmforge import _native
from rocmforge.cli.terminal import write


def show_version() -> None:
    """What was built: version, commit, instruction sets of the CPU kernels, GPU targets."""
    build = _native.BUILD
    write(f"rocmforge {build.version} (commit {build.commit})\n")
    write(f"CPU kernels: {', '.join(build.isas)}\n")
    write(f"GPU targets: {', '.join(gpu_targets()) or 'none'}\n")


def gpu_targets(package: Path = Path(rocmforge.__file__).parent) -> list[str]:
    """Those with a code object in the package."""
    files = (package / "kernels").glob("*")
    return sorted(file.stem for file in files if file.suffix in {".hsaco", ".cubin"})
