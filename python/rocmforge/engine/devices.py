"""What a model could run on, as far as this build and this machine go."""

from __future__ import annotations

from dataclasses import dataclass

from rocmforge import _native
from rocmforge.model.host import available_memory, default_threads


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A kind of device. What is not available says in its description what is missing."""

    name: str
    available: bool
    description: str
    isa: str | None = None  # of the kernels in use
    threads: int | None = None  # a model uses by default
    memory_bytes: int | None = None  # free


def devices() -> list[DeviceInfo]:
    """The CPU first."""
    isa, threads, memory = _native.cpu.isa(), default_threads(), available_memory()
    cpu = DeviceInfo(
        name="cpu",
        available=True,
        description=f"{isa} kernels, threads: {threads}, free memory: {memory / 2**30:.1f} GiB",
        isa=isa,
        threads=threads,
        memory_bytes=memory,
    )
    reason = "not available: this build has no GPU kernels"
    return [cpu, DeviceInfo(name="gpu", available=False, description=reason)]
