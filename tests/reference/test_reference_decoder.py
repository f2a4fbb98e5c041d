"""The oracle itself: against a naive reading, llama.cpp's figures, and trained models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from reference.decoder import ReferenceDecoder, negative_log_likelihoods
from reference.feed_forward import sparse_mixer
from reference.naive import naive_logits
from reference.peer_cases import CASES, ROUNDED, prompt
from reference.tiny_models import write_tiny_model

TRAINED = [
    *(f"stories260K-{f}" for f in ("F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_0")),
    *(f"babyllama-tok361-{f}" for f in ("F32", "F16", "Q8_0", "Q5_0", "Q4_0")),
]
PEER = json.loads(Path(__file__).with_name("peer_logits.json").read_text())


@pytest.mark.parametrize(
    ("architecture", "knobs"),
    [
        ("llama", {}),
        ("llama", {"num_experts": 4, "tied_output": True}),
        ("llama", {"attention_bias": True, "num_kv_heads": 1}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 8}),
    ],
    ids=["llama", "experts", "bias-mqa", "qwen2", "qwen3"],
)
def test_agrees_with_the_naive_reading(
    tmp_path: Path, architecture: str, knobs: dict[str, Any]
) -> None:
    path = write_tiny_model(
        tmp_path / "m.gguf", architecture, "F32", seed=1, num_layers=1, vocab_size=320, **knobs
    )
    ids = [300, 7, 45, 7]

    expected = naive_logits(path, ids)

    # Both in float64: only the order of sums differs.
    assert np.abs(ReferenceDecoder(path).logits(ids) - expected).max() < 1e-12


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_logits_llama_cpp_gave(tmp_path: Path, case: str) -> None:
    architecture, knobs = CASES[case]
    path = write_tiny_model(tmp_path / "m.gguf", architecture, "F32", **knobs)

    logits = ReferenceDecoder(path).logits(prompt(515))

    recorded = np.array(PEER["logits"][case])
    # 5e-6 is the record's rounding; the rest is llama.cpp's float32 (worst seen 1.8e-5). The
    # nearest wrong rope scaling is off by more than 1e-2. A float16 of GELU is off by 2^-12 of
    # itself (worst seen 5e-3).
    bound = 2e-2 if case in ROUNDED else 5e-5
    assert np.abs(logits[PEER["positions"], :: PEER["step"]] - recorded).max() < bound


def test_rope_scalings_are_told_apart_by_the_peers_prompt(tmp_path: Path) -> None:
    kinds = (None, "linear", "yarn", "yarn-attn", "llama3")
    results = []
    for kind in kinds:
        path = write_tiny_model(tmp_path / f"{kind}.gguf", "llama", "F32", rope_scaling=kind)
        results.append(ReferenceDecoder(path).logits(prompt(515)))
    for i in range(len(kinds)):
        for j in range(i):
            assert np.abs(results[i] - results[j]).max() > 1e-2, (kinds[i], kinds[j])


def test_a_sequence_fed_in_pieces_gives_what_it_gives_at_once(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "qwen3", "F32", seed=2)
    decoder = ReferenceDecoder(path)
    ids = prompt(515)[:20]

    whole = decoder.logits(ids)
    decoder.reset()
    pieces = [decoder.extend(ids[a:b]).logits for a, b in ((0, 7), (7, 8), (8, 20))]

    assert np.abs(np.concatenate(pieces) - whole).max() < 1e-12


def test_greedy_takes_the_argmax_of_teacher_forcing(tmp_path: Path) -> None:
    decoder = ReferenceDecoder(write_tiny_model(tmp_path / "m.gguf", "llama", "Q8_0", seed=3))
    ids = decoder.greedy([256, 9], 12)
    assert decoder.logits([256, 9, *ids])[1:-1].argmax(axis=-1).tolist() == ids


@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_give_the_recorded_figures(testdata: Path, name: str) -> None:
    """The records are another float64 NumPy decoder's, rounded to 5 places in the JSON."""
    models = testdata / "models"
    record = json.loads((models / "refs" / f"{name}.json").read_text())
    arrays = np.load(models / "refs" / f"{name}.npz")
    decoder = ReferenceDecoder(models / f"{name}.gguf")

    ids = record["nll_ids"]
    nll = negative_log_likelihoods(decoder.logits(ids)[:-1], ids[1:])
    assert nll.mean() == pytest.approx(record["nll_per_token"], rel=1e-12)
    for number, case in enumerate(record["cases"]):
        logits = decoder.logits(arrays[f"prompt{number}_ids"])
        first = len(case["prompt_ids"]) - 1
        ends = arrays[f"prompt{number}_logits_first_last"]
        np.testing.assert_allclose(logits[[first, -1]], ends, rtol=1e-7, atol=1e-6)
        steps = logits[first : first + case["n"]]
        best = np.argsort(-steps, axis=-1, kind="stable")[:, :5]
        np.testing.assert_array_equal(best, case["numpy_top5_ids"])
        values = np.take_along_axis(steps, best, axis=-1)
        np.testing.assert_allclose(values, case["numpy_top5_logits"], rtol=0, atol=6e-6)


def test_shares_of_a_sparse_mixer() -> None:
    """By hand: 0.99 is within 2 % of 1, 0.5 is not; so is -1.01 of -1."""
    near = 1 / (1 + np.exp(-0.01))
    assert sparse_mixer(np.array([0.5, 1.0, 0.99]), 2) == pytest.approx([0, near, 1])
    assert sparse_mixer(np.array([-1.01, -1.0, -9.0]), 1) == pytest.approx([0, near, 0])


def test_stories260k_tells_the_upstream_story(testdata: Path) -> None:
    path = testdata / "models" / "stories260K-F32.gguf"
    upstream = (testdata / "models" / "UPSTREAM-stories260K.md").read_text()
    story = upstream.partition("-t 0.0\n")[2].partition("\n```")[0]

    ids = ReferenceDecoder(path).greedy([1], 256)

    tokens = GGUFReader(path).fields["tokenizer.ggml.tokens"].contents()
    text = "".join(tokens[i] for i in ids).replace("<0x0A>", "\n").replace("\u2581", " ")
    assert text.removeprefix(" ") == story
