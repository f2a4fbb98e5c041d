from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

from rocmforge import _native
from rocmforge.cli.bench_runs import Bench, Case, cases
from rocmforge.engine.config import EngineConfig
from rocmforge.model.loader import load_model

FIGURES = {
    "test",
    "tokens_per_s",
    "min",
    "max",
    "bytes_per_s",
    "fraction_of_read_bandwidth",
}


@pytest.fixture
def bandwidth(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Instead of reading 512 MiB ten times."""
    calls: list[tuple[int, int]] = []

    def read_bandwidth(threads: int, size: int) -> float:
        calls.append((threads, size))
        return 1e9

    monkeypatch.setattr(_native.cpu, "read_bandwidth", read_bandwidth)
    return calls


def test_the_json_is_that_of_the_interface(
    run: Any, tiny_model: Path, bandwidth: list[tuple[int, int]]
) -> None:
    options = "-p 40 -n 6 -d 0,20 -b 1,3 -r 3 --threads 2 --json"
    result = run("bench", "--model", tiny_model, *options.split()).json
    assert set(result) == {
        "model",
        "device",
        "isa",
        "threads",
        "results",
        "load_s",
        "peak_rss_bytes",
        "read_bandwidth_bytes_per_s",
        "bandwidth_of",
    }
    names = [row["test"] for row in result["results"]]
    assert names == ["pp40", "tg6", "tg6@d20", "batch1", "batch3"]
    for row in result["results"]:
        assert set(row) == FIGURES
        assert 0 < row["min"] <= row["tokens_per_s"] <= row["max"]
        assert row["fraction_of_read_bandwidth"] == pytest.approx(row["bytes_per_s"] / 1e9)
    assert result["threads"] == 2
    assert result["isa"] == _native.cpu.isa()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 10e6 < result["peak_rss_bytes"] <= peak
    assert result["read_bandwidth_bytes_per_s"] == 1e9
    assert result["bandwidth_of"] == "reads on the CPU"
    assert bandwidth == [(2, 512 << 20)]


@pytest.mark.usefixtures("bandwidth")
def test_the_screen_has_a_line_a_test(run: Any, tiny_model: Path) -> None:
    ran = run("bench", "--model", tiny_model, "-p", 8, "-n", 0, "-r", 1)
    assert ran.out.splitlines()[-1].startswith("pp8 ")
    assert "reads on the CPU: 1.0 GB/s" in ran.out
    assert "pp8: run 1 of 1" in ran.err


def test_a_gpu_is_compared_with_copies_on_it(
    run: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rocmforge.cli.bench.MIN_BANDWIDTH_BYTES", 1 << 20)
    options = "-p 4 -n 2 -b 1 -r 1 --threads 1 --device host:0 --json"
    result = run("bench", "--model", tiny_model, *options.split()).json
    assert result["bandwidth_of"] == "copies on host:0"
    assert 1e8 < result["read_bandwidth_bytes_per_s"] < 1e12


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("-p 0 -n 0", "nothing is left"),
        ("-b 1,x", "-b is '1,x'"),
        ("-b 0", "-b is '0'"),
        ("-d -1", "-d is '-1'"),
        ("-p 4000", "4001"),
        ("-p 100 --ctx 50", "--ctx is 50"),
        ("-r 0", "'-r'"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(
    run: Any, tiny_model: Path, options: str, reason: str
) -> None:
    ran = run("bench", "--model", tiny_model, *options.split())
    assert ran.exit_code == 2
    assert reason in ran.err


def test_the_plan_has_every_depth_and_batch() -> None:
    assert cases(512, 128, [0, 64], [4]) == [
        Case("pp512", 1, 512, 0),
        Case("tg128", 1, 1, 128),
        Case("tg128@d64", 1, 64, 128),
        Case("batch4", 4, 32, 128),
    ]
    assert cases(0, 8, [0], []) == [Case("tg8", 1, 1, 8)]
    assert cases(9, 0, [0], [1]) == [Case("pp9", 1, 9, 0)]


def test_rates_and_bytes_follow_from_steps_and_clock(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that says 1 s a look, a decode step of n sequences is n tokens a second.

    The three prompts of a batch take three steps, in which not all sequences decode yet.
    """
    config = EngineConfig(threads=1, max_num_seqs=3, max_num_batched_tokens=40)
    model = load_model(tiny_model, config.load_options())
    bench = Bench(model, config.scheduler_config())
    seconds = iter(range(10**6))
    monkeypatch.setattr("rocmforge.cli.bench_runs.time.perf_counter", lambda: next(seconds))
    alone = bench.run(Case("tg5", 1, 1, 5), 2, lambda _: None)
    together = bench.run(Case("batch3", 3, 32, 5), 2, lambda _: None)
    prompt = bench.run(Case("pp40", 1, 40, 0), 1, lambda _: None)
    assert alone.rates == (1.0, 1.0)
    assert together.rates == (3.0, 3.0)
    assert prompt.rates == (40.0,)
    # Two layers of two heads of 16 keys and values in float16: 256 bytes a position.
    weights = model.decoder.weight_bytes
    position = 2 * 2 * (16 + 16) * 2
    assert alone.bytes_per_token == pytest.approx(weights + (1 + 3) * position)
    assert together.bytes_per_token == pytest.approx(weights / 3 + (32 + 3) * position)
    assert prompt.bytes_per_token == pytest.approx(weights / 40)
