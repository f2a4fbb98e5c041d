"""From what the caller asked for to the device a model is loaded on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rocmforge.errors import InvalidArgumentError, UnsupportedError
from rocmforge.model.gpu_devices import GpuDevice, emulated_gpus, find_gpus
from rocmforge.model.options import LoadOptions

_DEVICE: Final = re.compile(r"auto|cpu|gpu|(hip|cuda|host):(\d{1,3})")


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    gpu: GpuDevice | None  # None: the CPU
    reason: str
    is_fallback: bool = False  # the CPU although nobody asked for it

    @property
    def name(self) -> str:
        return "cpu" if self.gpu is None else self.gpu.name

    def without_gpu(self, why: str) -> DeviceChoice:
        """The CPU instead of a GPU that will not do; `why` may begin with its name."""
        why = why.removeprefix(f"{self.name}: ")
        return DeviceChoice(None, f"{self.name}: {why}", is_fallback=True)


def choose_device(
    options: LoadOptions,
    find: Callable[[], list[GpuDevice]] = find_gpus,
    emulated: Callable[[], list[GpuDevice]] = emulated_gpus,
) -> DeviceChoice:
    """The GPU for a model, or the CPU alone.

    "auto" is the first GPU that can be used, else the CPU. Raises InvalidArgumentError for another
    name, UnsupportedError if a GPU was asked for (by name, `require_gpu` or `gpu_layers`) and cannot
    be used; the message has every reason.
    """
    match = _DEVICE.fullmatch(options.device)
    if match is None:
        msg = f"device is {options.device!r}; it can be auto, cpu, gpu, hip:N, cuda:N or host:N"
        raise InvalidArgumentError(msg)
    if options.gpu_layers is not None and options.gpu_layers < 0:
        msg = f"gpu_layers is {options.gpu_layers}; it can be 0 or more"
        raise InvalidArgumentError(msg)
    if options.device == "cpu" or options.gpu_layers == 0:
        if options.require_gpu or (options.device == "cpu" and options.gpu_layers):
            asked = "require_gpu" if options.require_gpu else f"gpu_layers={options.gpu_layers}"
            msg = f"{asked} and device {options.device!r} contradict each other"
            raise InvalidArgumentError(msg)
        return DeviceChoice(None, "asked for" if options.device == "cpu" else "gpu_layers=0")

    found = emulated() if match[1] == "host" else find()
    if match[1]:
        found = [gpu for gpu in found if gpu.name in (options.device, match[1])]
    for gpu in found:
        if gpu.problem is None:
            return DeviceChoice(gpu, "asked for" if options.device != "auto" else "usable")
    # That there is no NVIDIA GPU either tells nobody anything.
    known = [gpu for gpu in found if ":" in gpu.name] or found[:1]
    reasons = "; ".join(f"{gpu.name}: {gpu.problem}" for gpu in known) or "there is no such device"
    if falls_back(options):
        return DeviceChoice(None, f"no usable GPU ({reasons})", is_fallback=True)
    asked = "require_gpu" if options.require_gpu else f"device {options.device}"
    asked = f"gpu_layers={options.gpu_layers}" if options.gpu_layers else asked
    msg = f"{asked}: no usable GPU ({reasons}); device 'cpu' is always there"
    raise UnsupportedError(msg)


def falls_back(options: LoadOptions) -> bool:
    """Whether the CPU will do where no GPU can be used."""
    return options.device == "auto" and not options.require_gpu and not options.gpu_layers
