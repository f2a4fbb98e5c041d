"""What a model could run on, as far as this build and this machine go."""

from __future__ import annotations

from dataclasses import dataclass

from rocmforge import _native
from rocmforge.model.gpu_devices import GpuDevice, emulated_gpus, find_gpus
from rocmforge.model.host import available_memory, default_threads


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device. What is not available says in its description what is missing."""

    name: str  # as in `device=`; "hip" or "cuda" alone where there is none of the kind
    available: bool
    description: str
    isa: str | None = None  # of the kernels in use
    threads: int | None = None  # a model uses by default
    memory_bytes: int | None = None  # free
    wave_size: int | None = None  # threads of a wave of a GPU


def devices() -> list[DeviceInfo]:
    """The CPU first, then GPUs and the reasons against them, then the emulated ones."""
    isa, threads, memory = _native.cpu.isa(), default_threads(), available_memory()
    cpu = DeviceInfo(
        name="cpu",
        available=True,
        description=f"{isa} kernels, threads: {threads}, free memory: {memory / 2**30:.1f} GiB",
        isa=isa,
        threads=threads,
        memory_bytes=memory,
    )
    return [cpu, *(_info(gpu) for gpu in (*find_gpus(), *emulated_gpus()))]


def _info(gpu: GpuDevice) -> DeviceInfo:
    why = "" if gpu.problem is None else f"; not available: {gpu.problem}"
    return DeviceInfo(
        name=gpu.name,
        available=gpu.problem is None,
        description=f"{gpu.description}{why}",
        memory_bytes=gpu.memory_bytes,
        wave_size=gpu.wave_size,
    )
