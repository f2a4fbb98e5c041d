"""Which GPUs a model can run on here, and why not on the others.

A GPU is usable if the kernel lets this user compute on it, a runtime library opens, and the package
has a code object for its instruction set. The emulated devices (host:0 and on) are always there and
never chosen unless they are asked for by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from rocmforge import _native
from rocmforge.errors import RocmForgeError, UnsupportedError
from rocmforge.model.amdgpu import (
    Access,
    AmdGpu,
    amd_gpus,
    missing_for_compute,
    missing_for_gpu,
)
from rocmforge.model.host import available_memory

# Of the memory that is free. A display's compositor allocates while a model runs.
SHARE_BESIDE_DISPLAY: Final = 0.7
SHARE: Final = 0.9

# LLVM's generic targets: one code object for processors that differ in what does not matter here.
GENERIC_TARGETS: Final = {
    "gfx9-generic": ("gfx900", "gfx902", "gfx904", "gfx906", "gfx909", "gfx90c"),
    "gfx9-4-generic": ("gfx940", "gfx941", "gfx942", "gfx950"),
    "gfx10-3-generic": tuple(f"gfx103{step}" for step in range(7)),
    "gfx11-generic": (*(f"gfx110{step}" for step in range(4)), *(f"gfx115{s}" for s in range(4))),
    "gfx12-generic": ("gfx1200", "gfx1201"),
}


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """A GPU, or for `name` "hip" or "cuda" the reason why there is none."""

    name: str  # hip:0
    driver: str
    ordinal: int
    description: str
    problem: str | None  # why no model can run on it
    code_object: Path | None = None
    memory_bytes: int | None = None  # free
    wave_size: int | None = None
    num_multiprocessors: int = 0
    drives_display: bool = False
    shares_host_memory: bool = False  # what is free is the host's

    @property
    def memory_share(self) -> float:
        """Of the free memory, what a model may take unless the caller says otherwise."""
        return SHARE_BESIDE_DISPLAY if self.drives_display else SHARE

    def native(self, memory_limit: int) -> tuple[str, int, str, int]:
        """As the native module takes it, with the bytes that may be used."""
        code = "" if self.code_object is None else str(self.code_object)
        return self.driver, self.ordinal, code, memory_limit


def code_objects() -> Path:
    """The folder of the package's code objects, <target>.hsaco and <target>.cubin."""
    return Path(str(resources.files("rocmforge"))) / "kernels"


def code_object(folder: Path, target: str, suffix: str) -> Path:
    """The file for a target, or for a generic one that includes it.

    Raises UnsupportedError naming the target and what there is.
    """
    generic = [name for name, members in GENERIC_TARGETS.items() if target in members]
    for name in (target, *generic):
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return path
    built = ", ".join(sorted(path.stem for path in folder.glob(f"*{suffix}"))) or "none"
    msg = f"no code object for {target}; this build has: {built}"
    raise UnsupportedError(msg)


def find_gpus(
    root: Path = Path("/"),
    folder: Path | None = None,
    access: Access = os.access,
    list_devices: Callable[[str], list[dict[str, Any]]] = _native.gpu.devices,
    available: Callable[[], int] = available_memory,
) -> list[GpuDevice]:
    """AMD GPUs, then NVIDIA's, in the order of their runtimes; without any, one entry that says why.

    `root` is where sys/ and dev/ are, `list_devices` what a runtime lists by its name, `available`
    the host's free memory.
    """
    folder = folder or code_objects()
    return [
        *_hip_devices(root, folder, access, list_devices, available),
        *_cuda_devices(folder, list_devices),
    ]


def emulated_gpus() -> list[GpuDevice]:
    """The emulated devices, by their number."""
    return [
        GpuDevice(
            name=f"host:{ordinal}",
            driver="host",
            ordinal=ordinal,
            description=f"{found['name']}, on the CPU: for tests, never chosen by itself",
            problem=None,
            memory_bytes=found["free_bytes"],
            wave_size=found["wave_size"],
            shares_host_memory=True,
        )
        for ordinal, found in enumerate(_native.gpu.devices("host"))
    ]


def _hip_devices(
    root: Path,
    folder: Path,
    access: Access,
    list_devices: Callable[[str], list[dict[str, Any]]],
    available: Callable[[], int],
) -> list[GpuDevice]:
    listed = amd_gpus(root)
    problem = missing_for_compute(root, access)
    if problem is None and not listed:
        problem = "the kernel lists no AMD GPU"
    devices: list[dict[str, Any]] = []
    if problem is None:
        try:
            devices = list_devices("hip")
        except RocmForgeError as error:
            problem = str(error)
        else:
            problem = None if devices else "the HIP runtime lists no GPU"
    if problem is not None:
        if not listed:
            return [_missing("hip", "AMD GPU", problem)]
        return [_missing(f"hip:{i}", _amd_text(gpu), problem, i) for i, gpu in enumerate(listed)]

    by_pci = {gpu.pci: gpu for gpu in listed}
    found = []
    for ordinal, device in enumerate(devices):
        gpu = by_pci.get(device["pci"])
        path = None
        if gpu is None:
            why: str | None = "the kernel's list of GPUs does not name its instruction set"
        else:
            why = missing_for_gpu(gpu, root, access)
            try:
                path = code_object(folder, gpu.target, ".hsaco")
            except UnsupportedError as error:
                why = why or str(error)
        text = device["name"] if gpu is None else f"{device['name']}, {_amd_text(gpu)}"
        usable = _device(
            "hip", ordinal, device, text, why, path, gpu is not None and gpu.drives_display
        )
        found.append(_of_the_host(usable, device, gpu, available))
    return found


def _of_the_host(
    found: GpuDevice, device: dict[str, Any], gpu: AmdGpu | None, available: Callable[[], int]
) -> GpuDevice:
    """An APU allocates from the memory set aside for it (VRAM) or, with kernels from 6.10 on, from
    the host's (GTT). Its runtime then tells more in total than is set aside, and what is free of it
    without regard to what the host's programs need."""
    if not device["integrated"] or gpu is None or device["total_bytes"] <= (gpu.vram_bytes or 0):
        return found
    free = min(device["free_bytes"], available())
    return replace(
        found,
        memory_bytes=free,
        shares_host_memory=True,
        description=f"{found.description}, of the host's {available() / 2**30:.1f} GiB",
    )


def _cuda_devices(
    folder: Path, list_devices: Callable[[str], list[dict[str, Any]]]
) -> list[GpuDevice]:
    try:
        devices = list_devices("cuda")
    except RocmForgeError as error:
        return [_missing("cuda", "NVIDIA GPU", str(error))]
    if not devices:
        return [_missing("cuda", "NVIDIA GPU", "the CUDA driver lists no GPU")]
    found = []
    for ordinal, device in enumerate(devices):
        target = "sm_{}{}".format(*device["capability"])
        path, why = None, None
        try:
            path = code_object(folder, target, ".cubin")
        except UnsupportedError as error:
            why = str(error)
        text = f"{device['name']}, {target}"
        found.append(_device("cuda", ordinal, device, text, why, path, device["run_time_limit"]))
    return found


def _device(
    driver: str,
    ordinal: int,
    device: dict[str, Any],
    text: str,
    problem: str | None,
    path: Path | None,
    drives_display: bool,
) -> GpuDevice:
    memory = f"free memory: {device['free_bytes'] / 2**30:.1f} GiB"
    return GpuDevice(
        name=f"{driver}:{ordinal}",
        driver=driver,
        ordinal=ordinal,
        description=f"{text}, {memory}{', drives a display' if drives_display else ''}",
        problem=problem,
        code_object=path,
        memory_bytes=device["free_bytes"],
        wave_size=device["wave_size"],
        num_multiprocessors=device.get("num_multiprocessors", 0),
        drives_display=drives_display,
    )


def _missing(name: str, text: str, problem: str, ordinal: int = 0) -> GpuDevice:
    return GpuDevice(name, name.partition(":")[0], ordinal, text, problem)


def _amd_text(gpu: AmdGpu) -> str:
    return gpu.target
