"""The comparison with another engine times what it says, and nothing that computes wrongly."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from random_models.shapes import SHAPES
from random_models.writer import write_random_model
from side_by_side.agreement import DisagreementError, compare
from side_by_side.client import Worker, WorkerError, rocmforge
from side_by_side.hog import first_core, hog
from side_by_side.machine import busy_cores
from side_by_side.rates import add_undisturbed
from side_by_side.table import table


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with closing(Worker(rocmforge(sys.executable, None))) as worker:
        yield worker


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.gguf"
    shape = dataclasses.replace(
        SHAPES["llama-3.2-1b"],
        num_layers=2,
        hidden=256,
        ffn=512,
        num_heads=8,
        num_kv_heads=2,
        vocab_size=1200,
        num_special_tokens=8,
    )
    write_random_model(path, shape, "Q4_0")
    return path


def test_a_worker_times_prompts_and_decoding_of_sequences(worker: Worker, model: Path) -> None:
    arguments = {"max_sequences": 4, "max_length": 64, "cache_tokens": 4 * 64}
    loaded = worker.ask("load", path=str(model), threads=1, **arguments)
    # Keys and values of two layers and two heads of 32 elements, in float16.
    assert loaded["kv_bytes_per_token"] == 2 * 2 * 2 * 32 * 2
    prompt = worker.ask("run", num_sequences=1, prompt=32, output=0)
    decoding = worker.ask("run", num_sequences=4, prompt=8, output=16)
    assert prompt["tokens_per_s"] > 0
    assert decoding["tokens_per_s"] > 0
    # A quarter of the weights each, and a cache of 8 tokens that grows to 24.
    mean_length = (9 + 24) / 2
    assert decoding["bytes_per_token"] == pytest.approx(
        loaded["weight_bytes"] / 4 + mean_length * loaded["kv_bytes_per_token"]
    )


def test_a_worker_tells_when_its_first_token_came_and_what_memory_it_took(
    worker: Worker, model: Path
) -> None:
    started = worker.started
    answer = worker.ask(
        "first_token", path=str(model), threads=1, started=started, text="words", context=64
    )
    assert 0 < answer["load_to_first_token_s"] < answer["process_to_first_token_s"]
    assert worker.ask("memory", prompt=16, output=2)["peak_rss_bytes"] > model.stat().st_size


def test_a_worker_that_fails_is_an_error_of_the_asker(capfd: pytest.CaptureFixture[str]) -> None:
    ended = "rocmforge ended with 1 while asked to load"
    with (
        closing(Worker(rocmforge(sys.executable, None))) as worker,
        pytest.raises(WorkerError, match=ended),
    ):
        worker.ask("load", path="missing.gguf")
    assert "TypeError" in capfd.readouterr().err


def test_the_level_asked_for_is_the_one_that_runs() -> None:
    with closing(Worker(rocmforge(sys.executable, "scalar"))) as worker:
        assert worker.ask("describe")["isa"] == "scalar"


def _logits(*, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, list[int]]:
    rng = np.random.default_rng(0)
    theirs = rng.normal(0, 3, (2, 1000))
    ours = theirs[0] + rng.normal(0, noise, 1000)
    return ours, theirs, [int(row.argmax()) for row in theirs]


def test_engines_that_differ_by_rounding_agree() -> None:
    result = compare(*_logits(noise=0.1))
    assert result["rms_difference_over_std"] == pytest.approx(0.1 / 3, rel=0.1)
    assert result["most_behind_best_over_std"] == 0
    assert result["same_greedy_tokens"] == 1


def test_engines_with_other_logits_do_not_agree() -> None:
    with pytest.raises(DisagreementError, match="do not agree"):
        compare(*_logits(noise=1.0))


def test_an_engine_that_draws_an_unlikely_token_does_not_agree() -> None:
    ours, theirs, tokens = _logits()
    tokens[1] = int(theirs[1].argmin())
    with pytest.raises(DisagreementError, match="do not agree"):
        compare(ours, theirs, tokens)


def test_logits_that_are_not_finite_agree_with_nothing() -> None:
    ours, theirs, tokens = _logits()
    theirs[1, 3] = np.nan
    with pytest.raises(DisagreementError, match="not finite"):
        compare(ours, theirs, tokens)


def test_a_hog_keeps_one_core_busy_for_as_long_as_it_is_wanted() -> None:
    children = Path("/proc/self/task") / str(os.getpid()) / "children"
    before = set(children.read_text().split())
    with hog(first_core()):
        (process,) = set(children.read_text().split()) - before
        assert os.sched_getaffinity(int(process)) == {first_core()}
        start = _cpu_seconds(process)
        time.sleep(0.3)
        assert _cpu_seconds(process) - start >= 0.05  # its share where others are as busy
    assert set(children.read_text().split()) == before


def _cpu_seconds(process: str) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


def test_cores_are_busy_from_none_to_all() -> None:
    assert 0 <= busy_cores(0.05) <= (os.cpu_count() or 1)


def _result(test: str, ours: float, theirs: float) -> dict[str, object]:
    return {
        "test": test,
        "hog": test.endswith("hog"),
        "rocmforge": {"median": ours, "fraction_of_read_bandwidth": 0.9},
        "llama_cpp": {"median": theirs, "fraction_of_read_bandwidth": 0.45},
        "ratio": ours / theirs,
        "other_busy_cores": {"median": 0.0},
    }


def test_a_rate_beside_a_hog_is_a_share_of_the_undisturbed_one() -> None:
    results = [_result("tg64", 40, 20), _result("tg16+hog", 20, 2)]
    add_undisturbed(results)
    assert [results[1][name]["fraction_of_undisturbed"] for name in ("rocmforge", "llama_cpp")] == [
        0.5,
        0.1,
    ]
    lines = table({"name": "1B", "tests": results}).splitlines()
    assert lines[2].split() == ["tg64", "40.0", "t/s", "20.0", "t/s", "2.00", "90%", "/", "45%"]
    assert lines[-1].strip() == "50% / 10% of undisturbed"
