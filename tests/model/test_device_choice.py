from __future__ import annotations

from typing import Any

import pytest

from rocmforge.errors import InvalidArgumentError, UnsupportedError
from rocmforge.model.device_choice import DeviceChoice, choose_device
from rocmforge.model.gpu_devices import GpuDevice
from rocmforge.model.options import LoadOptions

NUM_LAYERS = 6
BROKEN = GpuDevice("hip:0", "hip", 0, "gfx1010", "no code object for gfx1010")
OTHER = GpuDevice("hip:1", "hip", 1, "gfx1100", "no permission")
NO_HIP = GpuDevice("hip", "hip", 0, "AMD GPU", "the kernel lists no AMD GPU")
NO_CUDA = GpuDevice("cuda", "cuda", 0, "NVIDIA GPU", "no CUDA library")
GOOD = GpuDevice("hip:1", "hip", 1, "gfx1100", None, memory_bytes=1)
BETTER = GpuDevice("hip:2", "hip", 2, "gfx1201", None, memory_bytes=1)


def choose(found: list[GpuDevice], **options: Any) -> DeviceChoice:
    return choose_device(LoadOptions(**options), find=lambda: found)


@pytest.mark.parametrize("device", ["auto", "gpu"])
def test_the_first_gpu_that_can_be_used_is_taken(device: str) -> None:
    assert choose([BROKEN, GOOD, BETTER, NO_CUDA], device=device).gpu is GOOD


def test_auto_without_a_gpu_is_the_cpu_with_the_reasons() -> None:
    choice = choose([BROKEN, OTHER, NO_CUDA])
    assert choice.name == "cpu"
    assert choice.reason == (
        "no usable GPU (hip:0: no code object for gfx1010; hip:1: no permission)"
    )
    assert choose([NO_HIP, NO_CUDA]).reason == "no usable GPU (hip: the kernel lists no AMD GPU)"


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"require_gpu": True}, "require_gpu"),
        ({"device": "gpu"}, "device gpu"),
        ({"device": "hip:0"}, "device hip:0"),
        ({"gpu_layers": NUM_LAYERS}, f"gpu_layers={NUM_LAYERS}"),
    ],
)
def test_a_gpu_that_was_asked_for_and_cannot_be_used_is_an_error(
    options: dict[str, Any], asked: str
) -> None:
    with pytest.raises(UnsupportedError, match=rf"^{asked}: no usable GPU \(hip:0: no code object"):
        choose([BROKEN], **options)


def test_a_device_by_name_is_that_one_or_an_error() -> None:
    assert choose([GOOD, BETTER], device="hip:2").gpu is BETTER
    with pytest.raises(UnsupportedError, match=r"device hip:7: .*there is no such device"):
        choose([GOOD, BETTER], device="hip:7")
    with pytest.raises(UnsupportedError, match=r"device cuda:0: .*no CUDA library"):
        choose([GOOD, NO_CUDA], device="cuda:0")


def test_the_emulation_is_taken_by_name_alone() -> None:
    assert choose([], device="host:1").name == "host:1"
    for device in ("auto", "gpu"):
        with pytest.raises(UnsupportedError):
            choose([NO_CUDA], device=device, require_gpu=True)
    with pytest.raises(UnsupportedError, match="there is no such device"):
        choose([], device="host:9")


def test_the_cpu_is_taken_when_asked_for() -> None:
    assert choose([GOOD], device="cpu") == DeviceChoice(None, "asked for")
    assert choose([GOOD], gpu_layers=0) == DeviceChoice(None, "gpu_layers=0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"device": "hip"}, "device is 'hip'"),
        ({"device": "hip:x"}, "device is 'hip:x'"),
        ({"device": "cpu:0"}, "device is 'cpu:0'"),
        ({"gpu_layers": -1}, "gpu_layers is -1"),
        ({"device": "cpu", "require_gpu": True}, "require_gpu and device 'cpu'"),
        ({"device": "cpu", "gpu_layers": 6}, "gpu_layers=6 and device 'cpu'"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        choose([GOOD], **options)


@pytest.mark.parametrize("layers", [1, NUM_LAYERS, 999])
def test_any_number_of_layers_is_taken_to_a_gpu(layers: int) -> None:
    assert choose([GOOD], gpu_layers=layers).gpu is GOOD


def test_only_a_cpu_that_nobody_asked_for_is_a_fallback() -> None:
    assert choose([BROKEN]).is_fallback
    assert choose([GOOD]).without_gpu("it is full").is_fallback
    assert not choose([GOOD], device="cpu").is_fallback
    assert not choose([GOOD], gpu_layers=0).is_fallback
