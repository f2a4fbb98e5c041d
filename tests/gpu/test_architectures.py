"""Which architectures run on a GPU, and that the others are refused by the part that they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_steps import teacher_forced

from reference.decoder import ReferenceDecoder, kl_divergences
from reference.peer_cases import prompt
from reference.tiny_models import write_tiny_model
from rocmforge.errors import UnsupportedError
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions

# Post norms without norms before, with them, layers that do not turn, norms over all heads, pieces
# of tensors, part of a head turning: what GPUs have because their stages are the CPU's.
RUNNING: dict[str, dict[str, Any]] = {
    "olmo2": {},
    "glm4": {},
    "chatglm": {},
    "smollm3": {},
    "qwen3moe": {},
    "phi3": {},
    "seed_oss": {},
    "qwen3vl": {},
    "exaone4": {},
}
REFUSED = {
    "gemma": "another activation than SiLU",
    "gemma2": "another activation than SiLU",
    "gemma3": "another activation than SiLU",
    "gpt-oss": "another activation than SiLU",
    "qwen2moe": "shares among all experts",
    "olmoe": "shares among all experts",
    "granite": "scaled embeddings, sums or logits",
    "granitemoe": "scaled embeddings, sums or logits",
    "minimax-m2": "experts chosen by sigmoids",
    "arcee": "another activation than SiLU",
    "glm4moe": "layers without experts before others with them",
    "deepseek": "layers without experts before others with them",
    "dots1": "layers without experts before others with them",
    "deepseek2": "latent attention",
    "stablelm": "layer norms",
    "starcoder2": "layer norms",
    "command-r": "layer norms",
    "cohere2": "layer norms",
    "falcon": "layer norms",
    "gpt2": "layer norms",
    "phimoe": "layer norms",
}


@pytest.mark.parametrize("architecture", RUNNING)
def test_architectures_without_kernels_of_their_own_run(tmp_path: Path, architecture: str) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", architecture, "Q8_0", **RUNNING[architecture])
    ids = prompt(515, 48)
    logits = teacher_forced(
        path, ids, device="host:0", activations="float", kv_dtype="f32", step_sizes=[40, 1, 7]
    )
    assert kl_divergences(ReferenceDecoder(path).logits(ids), logits).max() < 1e-6
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("architecture", RUNNING)
def test_single_tokens_have_all_that_layers_have(tmp_path: Path, architecture: str) -> None:
    """Heads and formats of the fused decode step, which takes layers only if it knows their parts."""
    shape = RUNNING[architecture] | {"head_dim": 64, "num_layers": 4}
    path = write_tiny_model(tmp_path / "m.gguf", architecture, "F16", **shape)
    ids = prompt(515, 24)
    options = {"device": "host:0", "activations": "float", "kv_dtype": "f32"}
    logits = teacher_forced(path, ids, step_sizes=[20, 1, 1, 1, 1], **options)
    assert kl_divergences(ReferenceDecoder(path).logits(ids), logits).max() < 1e-6


@pytest.mark.parametrize("architecture", REFUSED)
def test_what_has_no_kernel_is_refused_by_name(tmp_path: Path, architecture: str) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", architecture, "Q8_0")
    with pytest.raises(UnsupportedError, match=REFUSED[architecture]):
        load_model(path, LoadOptions(device="host:0", max_num_seqs=1))


def test_windows_alone_are_refused(tmp_path: Path) -> None:
    keys = {"attention.sliding_window": 20}
    path = write_tiny_model(tmp_path / "m.gguf", "olmo2", "Q8_0", keys=keys)
    with pytest.raises(UnsupportedError, match="sliding windows"):
        load_model(path, LoadOptions(device="host:0", max_num_seqs=1))
