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

from rocmforge import _native
from rocmforge.errors import InvalidArgumentError, OutOfMemoryError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.hub.store import located
from rocmforge.model.cache_size import CacheSize
from rocmforge.model.config import ModelConfig
from rocmforge.model.device_choice import falls_back
from rocmforge.model.execution_plan import ExecutionPlan, Placement, plan_model, plan_on
from rocmforge.model.gpu_memory import gpu_memory_limit
from rocmforge.model.host import default_threads
from rocmforge.model.load_progress import LoadProgress
from rocmforge.model.native_spec import decoder_spec, native_weights
from rocmforge.model.options import LoadOptions
from rocmforge.model.tensors import check_tensors, expected_tensors

EMBEDDED_MODEL: Final = "stories-14m-Q4_K_M.gguf"
MAX_THREADS: Final = 1024
# Of the GPU memory that may be used, one after the other: others may have taken some by then.
_SHARES: Final = (1.0, 0.8, 0.6, 0.4)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    path: Path
    file: GGUFFile  # metadata stays readable; the tensors stay mapped with the decoder
    config: ModelConfig
    decoder: _native.Decoder
    plan: ExecutionPlan
    load_s: float

    @property
    def cache(self) -> CacheSize:
        return self.plan.cache

    @property
    def placement(self) -> tuple[Placement, ...]:
        placed = self.plan.placement()
        if not self.decoder.gemm_report:
            return placed
        products = Placement("long products", self.plan.choice.name, self.decoder.gemm_report)
        return (*placed, products)


def embedded_model() -> Path:
    """The story model inside the package."""
    return Path(str(resources.files("rocmforge") / "data" / EMBEDDED_MODEL))


def open_model(model: str | os.PathLike[str] | None) -> GGUFFile:
    """The file of a model, the embedded one's for None. Raises what opening a file raises."""
    return GGUFFile.open(embedded_model() if model is None else located(model))


def load_model(
    model: str | os.PathLike[str] | GGUFFile | None = None,
    options: LoadOptions | None = None,
    progress: LoadProgress | None = None,
) -> LoadedModel:
    """Loads a GGUF model, the embedded one for None; `progress` can be watched meanwhile.

    `model` is a file's path, the name of a model that has been pulled, owner/repo[:file], or a file
    that is open already and is closed afterwards.

    Raises InvalidArgumentError for an option out of range, UnsupportedError for a device that
    cannot be used, OutOfMemoryError if not even one sequence fits, and what opening a file raises.
    """
    start = time.perf_counter()
    options = options or LoadOptions()
    threads = _checked_threads(options.threads)
    if options.activations not in ("auto", "float"):
        msg = f"activations is {options.activations!r}; it can be 'auto' or 'float'"
        raise InvalidArgumentError(msg)

    with model if isinstance(model, GGUFFile) else open_model(model) as file:
        config = ModelConfig.from_gguf(file)
        check_tensors(file, config)
        plan = plan_model(file, config, options)
        try:
            decoder, plan = _fitting(plan, file, config, options, threads, progress)
        except (UnsupportedError, OutOfMemoryError) as error:
            if plan.choice.gpu is None or not falls_back(options):
                raise
            plan = plan_on(plan.choice.without_gpu(str(error)), file, config, options)
            decoder = _decoder(plan, file, config, options, threads, progress)
    return LoadedModel(
        path=file.path,
        file=file,
        config=config,
        decoder=decoder,
        plan=plan,
        load_s=time.perf_counter() - start,
    )


def _fitting(
    plan: ExecutionPlan,
    file: GGUFFile,
    config: ModelConfig,
    options: LoadOptions,
    threads: int,
    progress: LoadProgress | None,
) -> tuple[_native.Decoder, ExecutionPlan]:
    """A decoder by the plan, or by one for less of a GPU's memory if that is not there after all.

    Less memory is a smaller cache first, then fewer layers if their number was not asked for.
    Raises UnsupportedError, or OutOfMemoryError with the sizes that were tried.
    """
    failures = []
    for share in _SHARES:
        try:
            if share < 1:
                plan = plan_on(plan.choice, file, config, options, share)
            return _decoder(plan, file, config, options, threads, progress), plan
        except OutOfMemoryError as error:
            if plan.choice.gpu is None:
                raise
            failures.append(f"{error} ({_sizes(plan)})")
    raise OutOfMemoryError("; then: ".join(dict.fromkeys(failures)))


def _sizes(plan: ExecutionPlan) -> str:
    name = plan.choice.name
    return (
        f"on {name} the weights take {plan.weight_bytes(name)} bytes and the KV cache "
        f"{plan.kv_bytes(name)}"
    )


def _decoder(
    plan: ExecutionPlan,
    file: GGUFFile,
    config: ModelConfig,
    options: LoadOptions,
    threads: int,
    progress: LoadProgress | None,
) -> _native.Decoder:
    """Raises UnsupportedError or OutOfMemoryError if a device cannot hold or run its part."""
    specs = [spec for spec in expected_tensors(config) if spec.name in file.tensors]
    gpu, cache = plan.choice.gpu, plan.cache
    progress = progress or LoadProgress()
    progress.begin(sum(plan.weight_bytes(device) for device in {p.device for p in plan.parts}))
    decoder = _native.Decoder(
        decoder_spec(file, config, cache.max_model_len),
        {name: weight for spec in specs for name, weight in native_weights(file, spec)},
        num_threads=threads,
        float_activations=options.activations == "float",
        deterministic=options.deterministic,
        kv_dtype=options.kv_dtype,
        num_blocks=cache.num_blocks,
        block_size=options.block_size,
        # Where tokens see those after them, a step has all of a sequence.
        max_num_tokens=max(plan.max_num_tokens, 0 if config.causal else cache.max_model_len),
        max_num_seqs=options.max_num_seqs,
        max_model_len=cache.max_model_len,
        gpu=None if gpu is None else gpu.native(gpu_memory_limit(gpu, options)),
        on_gpu=None if gpu is None else plan.on_gpu,
        progress=progress.native,
    )
    progress.end()
    return decoder


def _checked_threads(threads: int | None) -> int:
    if threads is None:
        return default_threads()
    if not 1 <= threads <= MAX_THREADS:
        msg = f"threads is {threads}; it can be 1 to {MAX_THREADS}"
        raise InvalidArgumentError(msg)
    return threads
