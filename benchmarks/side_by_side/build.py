"""What a run says of the ROCmForge it measured."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from rocmforge import _native
from side_by_side.worker import built_with


def rocmforge_build() -> dict[str, Any]:
    return {
        "rocmforge": _native.BUILD.version,
        "commit": _native.BUILD.commit,
        "isa": _native.cpu.isa(),
        "built_with": built_with([Path(_native.__file__)]),
        "python": platform.python_version(),
    }
