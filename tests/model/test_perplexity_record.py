"""`rocmforge perplexity` against what llama.cpp gives for the same text, context and counting.

The record is benchmarks/results/perplexity-llama-cpp.json; benchmarks/perplexity_record.py wrote
it. The suite scores the first chunks only; the record has a figure for each chunk.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.decoder import ReferenceDecoder, negative_log_likelihoods
from reference.tiny_models import write_tiny_model
from rocmforge import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT / "tests" / "data" / "sample-text.txt"
RECORD = json.loads((ROOT / "benchmarks" / "results" / "perplexity-llama-cpp.json").read_text())
BOS = 256  # of the tiny vocabularies
NUM_CHUNKS = 4
PREFIX_BYTES = 8000  # of the text: four chunks of 512 tokens and a part of the fifth


def embedded_model() -> Path:
    return Path(str(resources.files("rocmforge") / "data" / "stories-14m-Q4_K_M.gguf"))


def perplexity(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "rocmforge", "perplexity", "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("vocabulary", ["llama-bpe", "qwen2"])
def test_chunks_are_counted_as_llama_cpps_tool_counts_them(tmp_path: Path, vocabulary: str) -> None:
    """float32 weights, keys and values: the figure has six places, and the count shows in them.

    In deterministic mode, because the prompt's bfloat16 tiles would keep three of the places.
    """
    model = write_tiny_model(tmp_path / "m.gguf", "llama", "F32", vocabulary=vocabulary)
    text = tmp_path / "text.txt"
    text.write_bytes(TEXT.read_bytes()[-600:])
    ids = Tokenizer.from_gguf(model).encode(text.read_text(), add_special=True)
    adds_bos = vocabulary == "llama-bpe"
    assert (ids[0] == BOS) == adds_bos
    oracle = ReferenceDecoder(model)
    scores = []
    for start in range(0, len(ids) // 64 * 64, 64):
        chunk = [BOS if adds_bos else ids[start], *ids[start + 1 : start + 64]]
        scores.append(negative_log_likelihoods(oracle.logits(chunk)[32:-1], chunk[33:]))

    exact = ("--kv-dtype", "f32", "--threads", 1, "--deterministic")
    result = perplexity("--model", model, "--file", text, "--ctx", 64, *exact)

    assert len(scores) >= 3
    assert result["tokens"] == 31 * len(scores)
    assert result["nll_per_token"] == pytest.approx(np.mean(scores), rel=1e-5)


def assert_agrees(result: dict[str, Any], name: str, tolerance: float = 0.005) -> None:
    scored = RECORD["scored_tokens_per_chunk"]
    means = RECORD["models"][name]["llama_cpp"]["chunk_nll_per_token"][:NUM_CHUNKS]
    expected = math.exp(sum(means) / NUM_CHUNKS)
    assert result["tokens"] == NUM_CHUNKS * scored
    assert result["perplexity"] == pytest.approx(expected, rel=tolerance)
    assert result["nll_per_token"] == pytest.approx(math.log(result["perplexity"]), rel=1e-6)


@pytest.fixture
def beginning(tmp_path: Path) -> Path:
    """A file with the first chunks of the text."""
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.read_bytes()[:PREFIX_BYTES])
    return path


def test_the_text_and_its_tokens_are_those_of_the_record() -> None:
    text = TEXT.read_bytes()
    assert hashlib.sha256(text).hexdigest() == RECORD["text_sha256"]
    tokenizer = Tokenizer.from_gguf(embedded_model())

    ids = tokenizer.encode(text.decode(), add_special=True)

    record = RECORD["models"]["stories-14m-Q4_K_M"]
    assert len(ids) == record["text_tokens"]
    raw = b"".join(token.to_bytes(4, "little") for token in ids)
    assert hashlib.sha256(raw).hexdigest() == record["token_ids_sha256"]


def test_the_embedded_model_has_the_perplexity_llama_cpp_finds(beginning: Path) -> None:
    result = perplexity("--file", beginning, "--ctx", 512)
    assert_agrees(result, "stories-14m-Q4_K_M")


# Nothing but float32's order of sums and half-precision keys stand between the F16 figures of
# deterministic mode; bfloat16 tiles round each product by 2^-8 at most, at random.
@pytest.mark.parametrize(
    ("weight_format", "options", "tolerance"),
    [("Q8_0", (), 0.005), ("F16", (), 0.001), ("F16", ("--deterministic",), 0.0003)],
)
def test_the_other_formats_have_the_perplexity_llama_cpp_finds(
    testdata: Path, beginning: Path, weight_format: str, options: tuple[str, ...], tolerance: float
) -> None:
    name = f"stories-14m-{weight_format}"
    model = testdata.parent / "demo-model" / f"{name}.gguf"
    if not model.exists():
        pytest.skip(f"{model} is not there; Q4_K_M is tested with the embedded model")
    result = perplexity("--model", model, "--file", beginning, "--ctx", 512, *options)
    assert_agrees(result, name, tolerance)
