from __future__ import annotations

from rocmforge import _native
from rocmforge.engine.devices import devices
from rocmforge.model.host import default_threads


def test_the_cpu_comes_first_with_what_it_has() -> None:
    cpu = devices()[0]
    assert (cpu.name, cpu.available) == ("cpu", True)
    assert cpu.isa == _native.cpu.isa()
    assert cpu.isa in _native.cpu.available_isas()
    assert cpu.threads == default_threads()
    assert cpu.memory_bytes is not None
    assert cpu.memory_bytes > 1 << 20
    assert cpu.isa in cpu.description


def test_a_gpu_is_not_claimed() -> None:
    (gpu,) = [device for device in devices() if device.name == "gpu"]
    assert not gpu.available
    assert gpu.description == "not available: this build has no GPU kernels"
    assert gpu.threads is gpu.memory_bytes is gpu.isa is None
