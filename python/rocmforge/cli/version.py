"""`rocmforge --version`."""

from __future__ import annotations

from rocmforge import _native
from rocmforge.cli.terminal import write


def show_version() -> None:
    """What was built: version, commit, instruction sets of the CPU kernels, GPU targets."""
    build = _native.BUILD
    write(f"rocmforge {build.version} (commit {build.commit})\n")
    write(f"CPU kernels: {', '.join(build.isas)}\n")
    write(f"GPU targets: {', '.join(build.gpu_targets) or 'none'}\n")
