"""Answers are bit-equal whatever else happens: neighbours, chunks, cache hits, preemption, threads."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from invariance import Circumstance, answers, fixed_requests

from reference.tiny_models import write_tiny_model
from rocmforge.model.options import LoadOptions

NUM_CIRCUMSTANCES = 500  # of each model: 2,000 in all
MODELS = {
    "llama-Q4_K_M": {"architecture": "llama", "weight_format": "Q4_K_M"},
    "qwen2-Q8_0": {"architecture": "qwen2", "weight_format": "Q8_0"},
    "qwen3-F16": {"architecture": "qwen3", "weight_format": "F16"},
    "mixtral-Q4_0": {"architecture": "llama", "weight_format": "Q4_0", "num_experts": 4},
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_random_circumstances_do_not_change_a_bit(
    tmp_path: Path, name: str, deterministic: bool
) -> None:
    """One kernel family serves every number of rows on the CPU, so the default mode has no wider
    bound than the deterministic one; both are held to equality."""
    model = write_tiny_model(tmp_path / "model.gguf", **MODELS[name])  # type: ignore[arg-type]
    options = LoadOptions(deterministic=deterministic)
    requests = fixed_requests(vocab_size=500)
    expected = {
        request.request_id: answers(model, [request], Circumstance(), options)[request.request_id]
        for request in requests
    }
    assert all(len(alone) == 1 for alone in expected.values())

    rng = random.Random(name)
    for _ in range(NUM_CIRCUMSTANCES // 2):
        how = Circumstance.draw(rng)
        got = answers(model, requests, how, options)
        for request in requests:
            alone = expected[request.request_id]
            assert got[request.request_id] == alone * (1 + how.repeats), (how, request)
