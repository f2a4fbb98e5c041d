"""What a caller may choose when a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activations = Literal["auto", "float"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load. None means: decide from the machine and the model."""

    device: str = "auto"
    threads: int | None = None
    max_model_len: int | None = None  # tokens of one sequence, prompt and output
    gpu_layers: int | None = None
    require_gpu: bool = False
    kv_dtype: str = "f16"  # or bf16, q8_0 (heads of a multiple of 32), f32
    memory_fraction: float | None = None  # of free memory: for the cache; on a GPU, for all
    block_size: int = 16  # tokens of a KV block
    num_blocks: int | None = None  # of the KV cache, instead of what memory_fraction gives
    max_num_seqs: int = 64
    max_num_tokens: int = 512  # of one step; more where whole sequences have to fit
    long_steps: bool = False  # a large GPU may take steps of more tokens than that
    deterministic: bool = False
    activations: Activations = "auto"
