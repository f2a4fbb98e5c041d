"""Trained models against their recorded float64 figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_steps import teacher_forced

from reference.decoder import ReferenceDecoder, kl_divergences, negative_log_likelihoods

EXACT = ("F32", "F16", "BF16", "Q8_0")
MODELS = [
    *(f"stories260K-{f}" for f in (*EXACT, "Q5_0", "Q4_0")),
    *(f"babyllama-tok361-{f}" for f in ("F32", "F16", "Q8_0", "Q5_0", "Q4_0")),
]
CLEAR_MARGIN = 0.1


def figures(testdata: Path, name: str) -> tuple[dict[str, Any], Any]:
    folder = testdata / "models" / "refs"
    return json.loads((folder / f"{name}.json").read_text()), np.load(folder / f"{name}.npz")


@pytest.mark.parametrize("name", MODELS)
def test_float_logits_are_the_recorded_ones(testdata: Path, name: str) -> None:
    path = testdata / "models" / f"{name}.gguf"
    record, arrays = figures(testdata, name)
    bound = 1e-3 if name.endswith(EXACT) else 1e-2

    ids = record["nll_ids"]
    logits = teacher_forced(path, ids, activations="float", kv_dtype="f32").astype(np.float64)
    nll = negative_log_likelihoods(logits[:-1], ids[1:])
    assert nll.mean() == pytest.approx(record["nll_per_token"], abs=1e-5)
    for number, case in enumerate(record["cases"]):
        ids = arrays[f"prompt{number}_ids"]
        logits = teacher_forced(path, ids, activations="float", kv_dtype="f32")
        first = len(case["prompt_ids"]) - 1
        ends = arrays[f"prompt{number}_logits_first_last"]
        assert np.abs(logits[[first, -1]] - ends).max() < bound
        steps = logits[first : first + case["n"]]
        top_ids = np.array(case["numpy_top5_ids"])
        top = np.array(case["numpy_top5_logits"])
        assert np.abs(np.take_along_axis(steps, top_ids, axis=-1) - top).max() < bound
        clear = top[:, 0] - top[:, 1] > CLEAR_MARGIN
        np.testing.assert_array_equal(steps.argmax(-1)[clear], top_ids[clear, 0])


@pytest.mark.parametrize("name", MODELS)
def test_default_activations_stay_within_the_family_bound(testdata: Path, name: str) -> None:
    path = testdata / "models" / f"{name}.gguf"
    _, arrays = figures(testdata, name)
    oracle = ReferenceDecoder(path)
    divergences = []
    for number in range(3):
        ids = arrays[f"prompt{number}_ids"]
        divergences.append(kl_divergences(oracle.logits(ids), teacher_forced(path, ids)))
    assert np.concatenate(divergences).mean() < 1e-3
