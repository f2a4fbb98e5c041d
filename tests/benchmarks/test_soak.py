"""The soak, for seconds instead of minutes: it finds nothing wrong, and it finds what is."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from served import SMALL, Served, serving

from serving.windows import slope
from soak import NUM_PROMPTS, Soak


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("soak"), *SMALL, "--deterministic") as served:
        yield served


def options(seconds: float) -> argparse.Namespace:
    return argparse.Namespace(
        minutes=seconds / 60, concurrency=[2, 6], hostile=0.3, windows=5, seed=1
    )


def test_a_soak_tells_of_requests_memory_and_latencies_and_finds_nothing_wrong(
    served: Served,
) -> None:
    report = asyncio.run(Soak(served.url, options(5)).run())
    assert report["faults"] == []
    assert {"greedy", "structured", "embedding", "left", "hostile"} <= set(report["requests"])
    share = report["requests"]["hostile"] / sum(report["requests"].values())
    assert 0.1 < share < 0.5
    windows = report["windows"]
    assert len(windows) >= 5
    assert sum(window["requests"] for window in windows) > 20
    assert all(window["rss_bytes"]["engine"] > 2**20 for window in windows)
    assert [w["concurrency"] for w in windows[:4]] == [2, 6, 2, 6]
    assert set(report["p99_s"]) == {2, 6}
    assert report["held_when_idle"]["after"] == report["held_when_idle"]["before"]
    assert all(w["p50_s"] <= w["p99_s"] for w in windows if w["requests"])
    assert report["rss_mib_per_hour"]["server"] is not None


def test_a_soak_finds_a_wrong_answer_and_a_lost_stream(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Soak._text
    num_asked = 0

    async def lying(self: Soak, path: str, body: dict[str, Any]) -> str:
        nonlocal num_asked
        num_asked += 1
        if num_asked <= 2 * NUM_PROMPTS:  # what is expected
            return await honest(self, path, body)
        if num_asked % 10 == 0:
            raise OSError(0, "a stream without an end")
        return await honest(self, path, body) + "x"

    monkeypatch.setattr(Soak, "_text", lying)
    report = asyncio.run(Soak(served.url, options(1.5)).run())
    assert any("instead of" in fault for fault in report["faults"])
    assert any("without an end" in fault for fault in report["faults"])


def test_the_slope_is_that_of_a_line_with_its_uncertainty() -> None:
    times = [0.0, 1800.0, 3600.0, 5400.0, 7200.0]
    assert slope(times, [1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((2.0, 0.0), abs=1e-9)
    found = slope(times, [1.0, 2.5, 2.5, 4.0, 5.0])
    assert found is not None
    assert found[0] == pytest.approx(1.9)
    assert found[1] > 0.1
    assert slope([0.0, 1.0], [0.0, 1.0]) is None
