"""The oracle's hidden states of models that make embeddings, against llama.cpp's figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reference.decoder import ReferenceDecoder, alibi_slopes
from reference.peer_cases import EMBEDDING_CASES, prompt
from reference.tiny_models import write_tiny_model

PEER = json.loads(Path(__file__).with_name("peer_embeddings.json").read_text())

# The record's rounding and float32 (worst seen 5.4e-6); elsewhere llama.cpp looks GELU up in a table
# of float16, or keeps keys and values in it (worst seen 1.3e-3).
BOUNDS = {"nomic-bert": 5e-5, "eurobert": 5e-5}


@pytest.mark.parametrize("case", EMBEDDING_CASES)
def test_hidden_states_are_those_that_llama_cpp_gave(tmp_path: Path, case: str) -> None:
    architecture, knobs = EMBEDDING_CASES[case]
    path = write_tiny_model(tmp_path / "m.gguf", architecture, "F32", **knobs)
    hidden = ReferenceDecoder(path).extend(prompt(515)).hidden
    recorded = np.array(PEER["hidden"][case])
    assert np.abs(hidden[PEER["positions"]] - recorded).max() < BOUNDS.get(case, 3e-3)


@pytest.mark.parametrize("case", PEER["pooled"])
def test_pooled_rows_are_llama_cpps(tmp_path: Path, case: str) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", case, "F32", **EMBEDDING_CASES[case][1])
    decoder = ReferenceDecoder(path)
    for number, length in enumerate(PEER["lengths"]):
        decoder.reset()
        hidden = decoder.extend(prompt(515, length)).hidden
        pooled = {"mean": hidden.mean(axis=0), "cls": hidden[0], "last": hidden[-1]}
        for kind, expected in pooled.items():
            recorded = PEER["pooled"][case][kind][number]
            assert np.abs(expected - recorded).max() < BOUNDS.get(case, 3e-3)


def test_slopes_of_eight_heads_halve_from_a_half_on() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(12)[8:] == pytest.approx([2.0**-i for i in (0.5, 1.5, 2.5, 3.5)])
