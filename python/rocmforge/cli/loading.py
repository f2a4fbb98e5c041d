"""Opens a model for a command, with progress when that takes long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rocmforge.cli.command import ModelOptions
from rocmforge.cli.failures import one_line
from rocmforge.cli.terminal import note, progress

if TYPE_CHECKING:
    from rocmforge import LLM


@contextmanager
def opened(options: ModelOptions) -> Iterator[LLM]:
    """The loaded model; closed again at the end of the block."""
    from rocmforge import LLM
    from rocmforge.model.load_progress import LoadProgress

    loading = LoadProgress()
    with progress(f"loading {model_name(options.model)}", loading.text):
        llm = LLM(
            model=options.model,
            device=options.device,
            threads=options.threads,
            max_model_len=options.ctx,
            gpu_layers=options.gpu_layers,
            require_gpu=options.require_gpu,
            kv_dtype=options.kv_dtype,
            memory_fraction=options.memory_fraction,
            deterministic=options.deterministic,
            progress=loading,
        )
    if options.device == "auto" and llm.device == "cpu":
        note(one_line(f"runs on the CPU: {llm.placement()[0][2]}"))
    elif "+" in llm.device:
        layers = [row for row in llm.placement() if row[0].startswith("layer ")]
        on_cpu = [reason for _, device, reason in layers if device == "cpu"]
        for reason in dict.fromkeys(on_cpu):
            note(one_line(f"{len(on_cpu)} of {len(layers)} layers run on the CPU: {reason}"))
    with llm:
        yield llm


def model_name(model: str | None) -> str:
    return "the embedded model" if model is None else Path(model).name
