"""LLM as users call it: logits of the float64 oracle, greedy text of the recorded models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reference.decoder import ReferenceDecoder
from reference.peer_cases import prompt
from reference.tiny_models import write_tiny_model
from rocmforge import LLM, SamplingParams

TRAINED = [
    *(f"stories260K-{f}" for f in ("F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_0")),
    *(f"babyllama-tok361-{f}" for f in ("F32", "F16", "Q8_0", "Q5_0", "Q4_0")),
]
CLEAR_MARGIN = 0.1
# Ten to a hundred times what float32 moves a logit here; test_decoder_against_reference.py
# has the bound proper.
CLOSE = 1e-3


def open_float(path: Path) -> LLM:
    return LLM(
        model=path, device="cpu", threads=2, activations="float", kv_dtype="f32", max_num_seqs=4
    )


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_logits_are_those_of_the_oracle(tmp_path: Path, architecture: str) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", architecture, "Q4_K_M", context_length=1024)
    ids = prompt(515, 600)  # more than one step's worth
    with open_float(path) as llm:
        logits = llm.logits(ids)
    assert logits.dtype == np.float32
    assert logits.shape == (600, 515)
    assert np.abs(logits - ReferenceDecoder(path).logits(ids)).max() < CLOSE


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("weight_format", ["F32", "Q8_0", "Q4_K_M"])
def test_greedy_generation_takes_the_argmax_of_teacher_forcing(
    tmp_path: Path, architecture: str, weight_format: str
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", architecture, weight_format, seed=6)
    params = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
    with open_float(path) as llm:
        results = llm.generate(["the other one", "there is"], params)
    for result in results:
        ids = list(result.token_ids)
        sequence = [*result.prompt_token_ids, *ids]
        logits = ReferenceDecoder(path).logits(sequence)[-len(ids) - 1 : -1]
        taken = logits[np.arange(len(ids)), ids]
        assert len(ids) == 24
        # An id may be the second best only where rounding can swap the two.
        assert (taken >= logits.max(axis=-1) - 2 * CLOSE).all()


@pytest.mark.parametrize("name", TRAINED)
def test_greedy_generation_leaves_the_recorded_ids_only_at_a_close_call(
    testdata: Path, name: str
) -> None:
    record = json.loads((testdata / "models" / "refs" / f"{name}.json").read_text())
    params = SamplingParams(temperature=0.0, max_tokens=120, ignore_eos=True)
    with open_float(testdata / "models" / f"{name}.gguf") as llm:
        results = llm.generate([case["prompt"] for case in record["cases"]], params)
    for case, result in zip(record["cases"], results, strict=True):
        assert list(result.prompt_token_ids) == case["prompt_ids"]
        pairs = zip(result.token_ids, case["greedy_ids_llama_cpp"], strict=True)
        split = next((step for step, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
        if split is not None:
            best, second = case["numpy_top5_logits"][split][:2]
            assert best - second < CLEAR_MARGIN


def test_stories260k_tells_the_upstream_story(testdata: Path) -> None:
    upstream = (testdata / "models" / "UPSTREAM-stories260K.md").read_text()
    story = upstream.partition("-t 0.0\n")[2].partition("\n```")[0]
    with open_float(testdata / "models" / "stories260K-F32.gguf") as llm:
        (result,) = llm.generate("", SamplingParams(temperature=0.0, max_tokens=256))
    assert len(result.token_ids) == 256
    assert result.text == story
