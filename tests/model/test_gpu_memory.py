from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reference.tiny_models import write_tiny_model
from rocmforge.errors import OutOfMemoryError
from rocmforge.model.check import check_model
from rocmforge.model.gpu_devices import emulated_gpus
from rocmforge.model.gpu_memory import gpu_cache_budget, gpu_memory_share, step_bytes
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions

GPU = replace(emulated_gpus()[0], memory_bytes=10 << 30)


def test_the_cache_gets_what_weights_and_buffers_leave_of_the_share(tmp_path: Path) -> None:
    config = check_model(write_tiny_model(tmp_path / "m.gguf", "llama", "Q8_0")).config
    options = LoadOptions(memory_fraction=0.5)
    budget = gpu_cache_budget(config, options, GPU, weight_bytes=1 << 30)
    assert budget == (5 << 30) - (1 << 30) - step_bytes(config, options)
    with pytest.raises(OutOfMemoryError, match=f"{10 << 30} bytes free, of which {5 << 30} may"):
        gpu_cache_budget(config, options, GPU, weight_bytes=5 << 30)


def test_a_display_takes_its_share_unless_the_caller_decides() -> None:
    beside = replace(GPU, drives_display=True)
    assert [gpu_memory_share(gpu, LoadOptions()) for gpu in (GPU, beside)] == [0.9, 0.7]
    assert gpu_memory_share(beside, LoadOptions(memory_fraction=0.25)) == 0.25


@pytest.mark.parametrize(
    "knobs",
    [
        {"max_num_tokens": 50_000, "max_num_seqs": 64},
        {"max_num_tokens": 30_000, "max_num_seqs": 2, "deterministic": True},
    ],
)
@pytest.mark.parametrize("experts", [0, 4])
def test_a_model_loads_into_what_was_planned_for_it(
    tmp_path: Path, knobs: dict[str, Any], experts: int
) -> None:
    """The plan is at least what the arenas then take, and a sequence's cache fits beside it. Many
    tokens, so that it is not the fixed part of the plan that makes it enough."""
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "Q4_0", num_experts=experts)
    report = check_model(path)
    free = emulated_gpus()[0].memory_bytes
    assert free is not None
    options = LoadOptions(device="host:0", threads=1, **knobs)
    planned = report.tensor_bytes + step_bytes(report.config, options) + (2 << 20)
    # Free memory of the host moves; a hundredth more or less is no matter.
    model = load_model(path, replace(options, memory_fraction=1.01 * planned / free))
    assert model.cache.num_blocks >= 1
