"""From a path to a model that runs: checked file, sized cache, native decoder.

The native decoder copies what it multiplies with into its own layout and gives the file's pages
back; vectors (norms, biases) become float32.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from rocmforge import _native
from rocmforge.errors import InvalidArgumentError, OutOfMemoryError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model.cache_size import CacheSize, fit_cache
from rocmforge.model.config import ModelConfig
from rocmforge.model.device_choice import DeviceChoice, choose_device, falls_back
from rocmforge.model.gpu_memory import gpu_cache_budget, gpu_memory_share
from rocmforge.model.host import default_threads
from rocmforge.model.options import LoadOptions
from rocmforge.model.rope import rope_frequencies
from rocmforge.model.tensors import TensorSpec, check_tensors, expected_tensors

EMBEDDED_MODEL: Final = "stories-14m-Q4_K_M.gguf"
MAX_THREADS: Final = 1024


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a part of the model runs, and why there."""

    part: str
    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class LoadedModel:
    path: Path
    file: GGUFFile  # metadata stays readable; the tensors stay mapped with the decoder
    config: ModelConfig
    decoder: _native.Decoder
    cache: CacheSize
    placement: tuple[Placement, ...]
    load_s: float


def embedded_model() -> Path:
    """The story model inside the package."""
    return Path(str(resources.files("rocmforge") / "data" / EMBEDDED_MODEL))


def load_model(
    path: str | os.PathLike[str] | None = None, options: LoadOptions | None = None
) -> LoadedModel:
    """Loads a GGUF model, the embedded one for None.

    Raises InvalidArgumentError for an option out of range, UnsupportedError for a device that
    cannot be used, OutOfMemoryError if not even one sequence fits, and what opening a file raises.
    """
    start = time.perf_counter()
    options = options or LoadOptions()
    threads = _checked_threads(options.threads)
    if options.activations not in ("auto", "float"):
        msg = f"activations is {options.activations!r}; it can be 'auto' or 'float'"
        raise InvalidArgumentError(msg)

    with GGUFFile.open(embedded_model() if path is None else path) as file:
        config = ModelConfig.from_gguf(file)
        check_tensors(file, config)
        choice = choose_device(options, config.num_layers)
        try:
            decoder, cache = _decoder_on(choice, file, config, options, threads)
        except (UnsupportedError, OutOfMemoryError) as error:
            if choice.gpu is None or not falls_back(options):
                raise
            choice = DeviceChoice(None, f"{choice.name}: {error}")
            decoder, cache = _decoder_on(choice, file, config, options, threads)
    return LoadedModel(
        path=file.path,
        file=file,
        config=config,
        decoder=decoder,
        cache=cache,
        placement=_placement(config, choice),
        load_s=time.perf_counter() - start,
    )


def _decoder_on(
    choice: DeviceChoice,
    file: GGUFFile,
    config: ModelConfig,
    options: LoadOptions,
    threads: int,
) -> tuple[_native.Decoder, CacheSize]:
    """Raises UnsupportedError or OutOfMemoryError if the device cannot hold or run the model."""
    specs = [spec for spec in expected_tensors(config) if spec.name in file.tensors]
    budget = None
    if choice.gpu is not None:
        weight_bytes = sum(file.tensors[spec.name].nbytes for spec in specs)
        budget = gpu_cache_budget(config, options, choice.gpu, weight_bytes)
    cache = fit_cache(config, options, budget=budget)
    decoder = _native.Decoder(
        decoder_spec(config, rope_frequencies(file, config.rope)),
        {spec.name: _weight(file, spec) for spec in specs},
        num_threads=threads,
        float_activations=options.activations == "float",
        deterministic=options.deterministic,
        kv_dtype=options.kv_dtype,
        num_blocks=cache.num_blocks,
        block_size=options.block_size,
        max_num_tokens=options.max_num_tokens,
        max_num_seqs=options.max_num_seqs,
        max_model_len=cache.max_model_len,
        gpu=_native_choice(choice, options),
    )
    return decoder, cache


def plan_placement(config: ModelConfig, options: LoadOptions) -> tuple[Placement, ...]:
    """Where a model would run. Raises what choose_device() does."""
    return _placement(config, choose_device(options, config.num_layers))


def _placement(config: ModelConfig, choice: DeviceChoice) -> tuple[Placement, ...]:
    parts = ["embedding", *(f"layer {i}" for i in range(config.num_layers)), "output"]
    placed = [Placement(part, choice.name, choice.reason) for part in parts]
    if choice.gpu is None:
        return (*placed, Placement("sampling", "cpu", choice.reason))
    return (*placed, Placement("sampling", "cpu", "draws are made on the host"))


def _native_choice(
    choice: DeviceChoice, options: LoadOptions
) -> tuple[str, int, str, float] | None:
    gpu = choice.gpu
    if gpu is None:
        return None
    code = "" if gpu.code_object is None else str(gpu.code_object)
    return gpu.driver, gpu.ordinal, code, gpu_memory_share(gpu, options)


def decoder_spec(config: ModelConfig, inv_freq: npt.NDArray[np.float32]) -> _native.DecoderSpec:
    """What the native forward pass needs of a configuration."""
    spec = _native.DecoderSpec()
    for name in (
        "num_layers",
        "hidden_size",
        "num_heads",
        "num_kv_heads",
        "head_dim",
        "value_dim",
        "vocab_size",
        "num_experts",
        "num_experts_used",
        "norm_eps",
        "attention_scale",
    ):
        setattr(spec, name, getattr(config, name))
    spec.ffn_size = config.expert_ffn_size if config.num_experts else config.ffn_size
    spec.rope_interleaved = config.rope.interleaved
    spec.rope_inv_freq = inv_freq.tolist()
    spec.rope_magnitude = config.rope.magnitude()
    return spec


def _weight(
    file: GGUFFile, spec: TensorSpec
) -> tuple[npt.NDArray[np.generic], str, tuple[int, int, int], bool]:
    """(memory, format, (matrices, rows, columns), whether it is the file's), as the native decoder
    takes it."""
    tensor = file.tensors[spec.name]
    data = file.tensor_data(spec.name)
    if spec.kind == "vector":
        floats = _native.cpu.dequantize(tensor.type.name, data)
        return floats, "F32", (1, 1, floats.size), False
    columns, rows, matrices = (*spec.shape, 1)[:3]
    aligned = data.ctypes.data % 4 == 0
    if not aligned:  # a file with general.alignment below 4: float rows need more
        data = data.copy()
    return data, tensor.type.name, (matrices, rows, columns), aligned


def _checked_threads(threads: int | None) -> int:
    if threads is None:
        return default_threads()
    if not 1 <= threads <= MAX_THREADS:
        msg = f"threads is {threads}; it can be 1 to {MAX_THREADS}"
        raise InvalidArgumentError(msg)
    return threads
