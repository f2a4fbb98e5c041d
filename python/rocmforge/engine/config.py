"""How to load a model and how much to run at once."""

from __future__ import annotations

from dataclasses import dataclass

from rocmforge.engine.scheduler import SchedulerConfig
from rocmforge.model.options import Activations, LoadOptions, check_types


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What `LLM`, `AsyncLLM` and `InferenceEngine` take. None: decided from machine and model."""

    device: str = "auto"
    """auto, cpu, gpu, hip:N, cuda:N or host:N."""
    threads: int | None = None
    max_model_len: int | None = None
    """Tokens of one sequence, prompt and output."""
    gpu_layers: int | None = None
    require_gpu: bool = False
    kv_dtype: str = "f16"
    memory_fraction: float | None = None
    """Of the free memory: for the KV cache, or on a GPU for everything."""
    block_size: int = 16
    """Tokens of a KV block."""
    max_num_seqs: int = 64
    """Requests that run at once."""
    deterministic: bool = False
    """Bit-equal results whatever else runs."""
    activations: Activations = "auto"
    max_num_batched_tokens: int | None = None
    """Tokens of one step; None: what suits the device, 512 on most (or max_num_seqs if more)."""
    max_queue: int = 256
    """Requests that may wait for their first step."""

    def __post_init__(self) -> None:
        check_types(self)

    def load_options(self) -> LoadOptions:
        return LoadOptions(
            device=self.device,
            threads=self.threads,
            max_model_len=self.max_model_len,
            gpu_layers=self.gpu_layers,
            require_gpu=self.require_gpu,
            kv_dtype=self.kv_dtype,
            memory_fraction=self.memory_fraction,
            block_size=self.block_size,
            max_num_seqs=self.max_num_seqs,
            max_num_tokens=self.scheduler_config().max_num_batched_tokens,
            long_steps=self.max_num_batched_tokens is None,
            deterministic=self.deterministic,
            activations=self.activations,
        )

    def scheduler_config(self, decoder_tokens: int | None = None) -> SchedulerConfig:
        """For a decoder whose steps take so many tokens.

        Raises InvalidArgumentError for limits that leave nothing to run.
        """
        usual = decoder_tokens or max(512, self.max_num_seqs)
        return SchedulerConfig(
            max_num_batched_tokens=self.max_num_batched_tokens or usual,
            max_num_seqs=self.max_num_seqs,
            max_queue=self.max_queue,
        )
