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


def test_what_is_not_available_says_why() -> None:
    for device in devices():
        assert device.available == ("not available: " not in device.description)
        assert device.available or device.name.partition(":")[0] in {"hip", "cuda"}


def test_both_emulated_gpus_are_listed_last() -> None:
    found = devices()
    emulated = [device for device in found if device.name.startswith("host:")]
    assert emulated == found[-len(emulated) :]
    assert [(gpu.name, gpu.wave_size) for gpu in emulated[:2]] == [("host:0", 32), ("host:1", 64)]
    assert all(gpu.available and "never chosen by itself" in gpu.description for gpu in emulated)
