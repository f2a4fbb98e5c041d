"""Which device runs which part of a model, and how large the KV cache is: decided before loading.

A layer is whole on one device. The last layers and the output are those that go to a GPU, so that
the residual stream changes the device once. `gpu_layers=N` is the last N; without a number as many
as fit, beside a cache for one sequence of MIN_CONTEXT tokens. A part that no GPU kernel takes stays
on the CPU, whatever was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from rocmforge.errors import OutOfMemoryError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model.cache_size import (
    CacheSize,
    Pool,
    fit_cache,
    host_pool,
    layer_block_bytes,
    least_blocks,
)
from rocmforge.model.config import ModelConfig
from rocmforge.model.device_choice import DeviceChoice, choose_device, falls_back
from rocmforge.model.gpu_devices import GpuDevice
from rocmforge.model.gpu_memory import (
    gpu_cache_budget,
    gpu_memory_left,
    gpu_memory_limit,
    long_step,
)
from rocmforge.model.host import available_memory
from rocmforge.model.model_parts import ModelPart, model_parts, weight_bytes
from rocmforge.model.options import LoadOptions

# A longer context that nobody asked for keeps no layer from the GPU.
MIN_CONTEXT: Final = 4096


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a part of the model runs, and why there."""

    part: str
    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """A part of a model on its device."""

    part: ModelPart
    device: str
    reason: str
    is_fallback: bool  # on the CPU although nobody asked for that
    kv_block_bytes: int  # of the keys and values of a block; 0 for embedding and output


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """What runs where, from embedding to output, and the cache that fits beside it."""

    choice: DeviceChoice
    parts: tuple[LayerPlan, ...]
    cache: CacheSize
    draws_tokens: bool  # else nothing is made of the output but embeddings
    max_num_tokens: int  # of one step

    @property
    def layers(self) -> tuple[LayerPlan, ...]:
        return self.parts[1:-1]

    @property
    def on_gpu(self) -> list[bool]:
        """Of every part."""
        return [plan.device != "cpu" for plan in self.parts]

    @property
    def num_fallbacks(self) -> int:
        """Parts on the CPU although nobody asked for that; without a GPU, drawing tokens is one."""
        return sum(plan.is_fallback for plan in self.parts) + self.choice.is_fallback

    def weight_bytes(self, device: str) -> int:
        """That the weights take on a device."""
        return weight_bytes(plan.part for plan in self.parts if plan.device == device)

    def kv_bytes(self, device: str) -> int:
        """That the KV cache takes on a device."""
        blocks = self.cache.num_blocks
        return blocks * sum(plan.kv_block_bytes for plan in self.parts if plan.device == device)

    def placement(self) -> tuple[Placement, ...]:
        """Every part, and the drawing of tokens, if any are drawn."""
        placed = (Placement(plan.part.name, plan.device, plan.reason) for plan in self.parts)
        return (*placed, self._sampling()) if self.draws_tokens else (*placed,)

    def _sampling(self) -> Placement:
        if self.choice.gpu is None:
            return Placement("sampling", "cpu", self.choice.reason)
        first, last = self.parts[0].device, self.parts[-1].device
        if first != last or last == "cpu":
            return Placement("sampling", "cpu", "embedding and output are not on one GPU")
        on_cpu = "where log-probabilities, penalties, biases or a grammar are asked for, on the CPU"
        return Placement("sampling", last, on_cpu)


def plan_model(file: GGUFFile, config: ModelConfig, options: LoadOptions) -> ExecutionPlan:
    """The plan that loading begins with; where the CPU will do, it is what remains.

    Raises what choose_device() and plan_on() do.
    """
    choice = choose_device(options)
    try:
        return plan_on(choice, file, config, options)
    except (UnsupportedError, OutOfMemoryError) as error:
        if choice.gpu is None or not falls_back(options):
            raise
        return plan_on(choice.without_gpu(str(error)), file, config, options)


def plan_on(
    choice: DeviceChoice,
    file: GGUFFile,
    config: ModelConfig,
    options: LoadOptions,
    share: float = 1.0,
) -> ExecutionPlan:
    """The plan for a device; of a GPU's memory that may be used, `share` is.

    Steps are longer than options.max_num_tokens where that suits the GPU and the whole model is
    there. Raises OutOfMemoryError with the sizes if what must be on a device does not fit there,
    UnsupportedError if no layer can run on the GPU, and either if `require_gpu` cannot be kept.
    """
    if choice.gpu and (tokens := long_step(config, options, choice.gpu)):
        longer = replace(options, max_num_tokens=tokens, require_gpu=False)
        try:
            plan = _plan_on(choice, file, config, longer, share)
        except OutOfMemoryError:
            pass
        else:
            if all(plan.on_gpu):
                return plan
    return _plan_on(choice, file, config, options, share)


def _plan_on(
    choice: DeviceChoice,
    file: GGUFFile,
    config: ModelConfig,
    options: LoadOptions,
    share: float,
) -> ExecutionPlan:
    parts, kv_bytes = model_parts(file, config), layer_block_bytes(config, options)
    tokens = options.max_num_tokens
    if choice.gpu is None:
        plans = (
            LayerPlan(part, "cpu", choice.reason, choice.is_fallback, kv_bytes * part.is_layer)
            for part in parts
        )
        return ExecutionPlan(
            choice, tuple(plans), fit_cache(config, options), config.causal, tokens
        )
    if all(part.problem for part in parts if part.is_layer):
        msg = f"{choice.name}: {next(part.problem for part in parts if part.is_layer)}"
        raise UnsupportedError(msg)

    on_gpu, room = _choose(choice.gpu, config, options, parts, share)
    fitting = sum(part.is_layer and is_on for part, is_on in zip(parts, on_gpu, strict=True))
    short = f"{fitting} of {config.num_layers} layers fit into the memory of {choice.name}"
    plans = (
        _planned(part, is_on, choice, options, short, kv_bytes * part.is_layer)
        for part, is_on in zip(parts, on_gpu, strict=True)
    )
    pools = []
    if fitting > 0:
        share_text = "what weights and buffers leave of the device's memory"
        pools.append(Pool(fitting, room, share_text))
    if fitting < config.num_layers:
        free = available_memory()
        if choice.gpu.shares_host_memory:
            free = max(0, free - gpu_memory_limit(choice.gpu, options))
        pools.append(host_pool(config.num_layers - fitting, options, free))
    cache = fit_cache(config, options, pools=pools)
    plan = ExecutionPlan(choice, tuple(plans), cache, config.causal, tokens)
    if options.require_gpu and plan.num_fallbacks:
        _refuse(plan)
    return plan


def _choose(
    gpu: GpuDevice, config: ModelConfig, options: LoadOptions, parts: list[ModelPart], share: float
) -> tuple[list[bool], int]:
    """Which parts are on the GPU, and the bytes that leaves for its part of the cache."""
    least = least_blocks(config, options, MIN_CONTEXT) * layer_block_bytes(config, options)
    on_gpu: list[bool] = []
    for on_gpu in _candidates(config.num_layers, options, parts):
        bytes_there = weight_bytes(p for p, is_on in zip(parts, on_gpu, strict=True) if is_on)
        if gpu_memory_left(config, options, gpu, bytes_there, share) >= least * sum(on_gpu[1:-1]):
            break
    return on_gpu, gpu_cache_budget(config, options, gpu, bytes_there, share)


def _candidates(
    num_layers: int, options: LoadOptions, parts: list[ModelPart]
) -> Iterator[list[bool]]:
    """What may be on the GPU, the most first: everything, then the last layers and the output."""
    asked = options.gpu_layers
    if asked is None or asked >= num_layers:
        yield [part.problem is None for part in parts]
    counts = range(num_layers, 0, -1) if asked is None else [asked] * (asked < num_layers)
    for count in counts:
        first = num_layers + 1 - count
        on_gpu = [i >= first and part.problem is None for i, part in enumerate(parts)]
        if any(on_gpu[1:-1]) or asked is not None:
            yield on_gpu


def _planned(
    part: ModelPart,
    is_on_gpu: bool,
    choice: DeviceChoice,
    options: LoadOptions,
    short: str,
    kv_block_bytes: int,
) -> LayerPlan:
    if is_on_gpu:
        return LayerPlan(part, choice.name, choice.reason, False, kv_block_bytes)
    if part.problem is None and options.gpu_layers is not None:
        reason, is_fallback = f"gpu_layers={options.gpu_layers}", False
    else:
        reason, is_fallback = part.problem or short, True
    return LayerPlan(part, "cpu", reason, is_fallback, kv_block_bytes)


def _refuse(plan: ExecutionPlan) -> NoReturn:
    first = next(plan for plan in plan.parts if plan.is_fallback)
    msg = f"require_gpu: {first.part.name} would run on the CPU: {first.reason}"
    raise (UnsupportedError if first.part.problem else OutOfMemoryError)(msg)
