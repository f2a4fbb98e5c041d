"""What stands between a model and a GPU, one check after the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocmforge import _native
from rocmforge.errors import RocmForgeError
from rocmforge.model.amdgpu import Access, AmdGpu, amd_gpus, missing_for_compute, missing_for_gpu
from rocmforge.model.gpu_devices import code_objects, find_gpus


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str


def diagnose(
    root: Path = Path("/"),
    folder: Path | None = None,
    access: Access = os.access,
    list_devices: Callable[[str], list[dict[str, Any]]] = _native.gpu.devices,
    matrix_library: Callable[[str], str] = _native.gpu.matrix_library,
) -> list[Check]:
    """Kernel driver, permissions, runtimes, code objects, then every GPU; see find_gpus()."""
    folder = folder or code_objects()
    problem = missing_for_compute(root, access)
    checks = [Check("kernel driver", problem is None, problem or "amdgpu, /dev/kfd can be used")]
    for number, gpu in enumerate(amd_gpus(root)):
        missing = missing_for_gpu(gpu, root, access)
        text = _gpu_text(gpu)
        checks.append(
            Check(f"AMD GPU {number}", missing is None, f"{text}; {missing}" if missing else text)
        )
    for name in ("hip", "cuda"):
        checks.append(_runtime(name, list_devices))
        if checks[-1].ok:
            checks.append(_matrix_library(name, matrix_library))
    built = sorted(path.name for path in folder.glob("*") if path.suffix in {".hsaco", ".cubin"})
    detail = ", ".join(built) or "this build has none: it runs on the CPU"
    checks.append(Check("code objects", bool(built), detail))
    checks += [
        Check(gpu.name, gpu.problem is None, gpu.problem or gpu.description)
        for gpu in find_gpus(root, folder, access, list_devices)
    ]
    return checks


def _runtime(name: str, list_devices: Callable[[str], list[dict[str, Any]]]) -> Check:
    try:
        count = len(list_devices(name))
    except RocmForgeError as error:
        return Check(f"{name} runtime", False, str(error))
    return Check(f"{name} runtime", count > 0, f"devices: {count}")


def _matrix_library(driver: str, find: Callable[[str], str]) -> Check:
    name = f"{driver} matrix library"
    try:
        return Check(name, True, find(driver))
    except RocmForgeError as error:
        return Check(name, False, f"{error}; own kernels multiply long prompts, more slowly")


def _gpu_text(gpu: AmdGpu) -> str:
    parts = [gpu.target, "at {:04x}:{:02x}:{:02x}".format(*gpu.pci)]
    if gpu.vram_bytes is not None:
        parts.append(f"{gpu.vram_bytes / 2**30:.1f} GiB of its own")
    if gpu.gtt_bytes is not None:
        parts.append(f"{gpu.gtt_bytes / 2**30:.1f} GiB of the host's")
    if gpu.drives_display:
        parts.append("drives a display: models take at most 70 % of what is free")
    return ", ".join(parts)
