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
from rocmforge.errors import InvalidArgumentError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model.cache_size import CacheSize, fit_cache
from rocmforge.model.config import ModelConfig
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

    Raises InvalidArgumentError for an option out of range, UnsupportedError for a device this
    build lacks, OutOfMemoryError if not even one sequence fits, and what opening a file raises.
    """
    start = time.perf_counter()
    options = options or LoadOptions()
    _check_device(options)
    threads = _checked_threads(options.threads)
    if options.activations not in ("auto", "float"):
        msg = f"activations is {options.activations!r}; it can be 'auto' or 'float'"
        raise InvalidArgumentError(msg)

    with GGUFFile.open(embedded_model() if path is None else path) as file:
        config = ModelConfig.from_gguf(file)
        check_tensors(file, config)
        cache = fit_cache(config, options)
        weights = {
            spec.name: _weight(file, spec)
            for spec in expected_tensors(config)
            if spec.name in file.tensors
        }
        decoder = _native.Decoder(
            decoder_spec(config, rope_frequencies(file, config.rope)),
            weights,
            num_threads=threads,
            float_activations=options.activations == "float",
            deterministic=options.deterministic,
            kv_dtype=options.kv_dtype,
            num_blocks=cache.num_blocks,
            block_size=options.block_size,
            max_num_tokens=options.max_num_tokens,
            max_num_seqs=options.max_num_seqs,
            max_model_len=cache.max_model_len,
        )
    return LoadedModel(
        path=file.path,
        file=file,
        config=config,
        decoder=decoder,
        cache=cache,
        placement=plan_placement(config, options),
        load_s=time.perf_counter() - start,
    )


def plan_placement(config: ModelConfig, options: LoadOptions) -> tuple[Placement, ...]:
    """Where a model would run. Raises UnsupportedError for a device this build lacks."""
    reason = _check_device(options)
    parts = ["embedding", *(f"layer {i}" for i in range(config.num_layers)), "output", "sampling"]
    return tuple(Placement(part, "cpu", reason) for part in parts)


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


def _check_device(options: LoadOptions) -> str:
    """Returns why the model runs on the CPU; raises if the caller wants something else."""
    kind, _, index = options.device.partition(":")
    if kind not in {"auto", "cpu", "gpu", "hip", "cuda", "host"} or (index and not index.isdigit()):
        msg = f"device is {options.device!r}; it can be auto, cpu, gpu, hip:N, cuda:N or host:N"
        raise InvalidArgumentError(msg)
    wants_gpu = kind not in {"auto", "cpu"} or options.require_gpu or bool(options.gpu_layers)
    if wants_gpu:
        asked = "require_gpu" if options.require_gpu else f"device {options.device}"
        asked = f"gpu_layers={options.gpu_layers}" if options.gpu_layers else asked
        msg = f"{asked}: this build has no GPU kernels; it runs on: cpu"
        raise UnsupportedError(msg)
    return "asked for" if kind == "cpu" else "this build has no GPU kernels"


def _checked_threads(threads: int | None) -> int:
    if threads is None:
        return default_threads()
    if not 1 <= threads <= MAX_THREADS:
        msg = f"threads is {threads}; it can be 1 to {MAX_THREADS}"
        raise InvalidArgumentError(msg)
    return threads
