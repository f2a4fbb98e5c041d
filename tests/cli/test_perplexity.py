from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.decoder import ReferenceDecoder
from rocmforge.cli.perplexity import negative_log_likelihood
from rocmforge.tokenizer import Tokenizer

TEXT = "the other one and there is the one that is there " * 12


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def expected_mean(model: Path, ctx: int) -> tuple[float, int]:
    """Nats a token, by the float64 decoder: second halves of chunks that begin with BOS."""
    tokenizer = Tokenizer.from_gguf(model)
    ids = tokenizer.encode(TEXT, add_special=True)
    decoder = ReferenceDecoder(model)
    nats = []
    for start in range(0, len(ids) // ctx * ctx, ctx):
        chunk = ids[start : start + ctx]
        chunk[0] = tokenizer.bos_id if tokenizer.add_bos else chunk[0]
        logits = np.asarray(decoder.logits(chunk), np.float64)
        for position in range(ctx // 2, ctx - 1):
            row = logits[position]
            nats.append(np.logaddexp.reduce(row) - row[chunk[position + 1]])
    return float(np.mean(nats)), len(nats)


@pytest.mark.parametrize("ctx", [16, 33])
def test_it_is_what_the_oracle_finds(run: Any, tiny_model: Path, text_file: Path, ctx: int) -> None:
    result = run(
        "perplexity", "--model", tiny_model, "--file", text_file, "--ctx", ctx, "--json"
    ).json
    mean, count = expected_mean(tiny_model, ctx)
    assert set(result) == {"perplexity", "nll_per_token", "tokens"}
    assert result["tokens"] == count
    # Activations are rounded to 8 bits and the cache to float16; both are unbiased.
    assert result["nll_per_token"] == pytest.approx(mean, rel=5e-3)
    assert result["perplexity"] == pytest.approx(math.exp(result["nll_per_token"]))


def test_the_screen_shows_the_same(run: Any, tiny_model: Path, text_file: Path) -> None:
    ran = run("perplexity", "--model", tiny_model, "--file", text_file, "--ctx", 32)
    assert ran.out.startswith("perplexity ")
    assert " nats a token, " in ran.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["--ctx", "3"], "--ctx is 3"), (["--ctx", "200"], "one chunk of --ctx needs 200")],
)
def test_a_text_or_context_too_short_is_refused(
    run: Any, tiny_model: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    path = tmp_path / "short.txt"
    path.write_text("there is")
    ran = run("perplexity", "--model", tiny_model, "--file", path, *arguments)
    assert ran.exit_code == 2
    assert reason in ran.err


def test_a_file_that_is_not_there_or_no_text_is_refused(run: Any, tiny_model: Path) -> None:
    for path in ("/no/such/file", tiny_model):
        ran = run("perplexity", "--model", tiny_model, "--file", path)
        assert ran.exit_code == 2
        assert str(path) in ran.err
    assert run("perplexity", "--model", tiny_model).exit_code == 2


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[3e4, 0.0, 3e4], [-3e4, -3e4, -3e4]], np.float32)
    assert negative_log_likelihood(logits, [0, 1]) == pytest.approx(math.log(2) + math.log(3))
