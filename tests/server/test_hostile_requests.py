"""The hostile requests of the benchmarks' collection, several at a time, and what is left after."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import urlsplit

from served import SMALL, serving

from hostile import Answer, Hostile, ask, hostile_requests

NUM_AT_ONCE = 8
GREEDY = {"prompt": "Once upon a time", "max_tokens": 24, "temperature": 0}


async def all_answers(url: str, requests: list[Hostile]) -> list[str]:
    """What is wrong with the answers, in words."""
    parts = urlsplit(url)
    faults: list[str] = []
    left = list(reversed(requests))

    async def client() -> None:
        while left:
            request = left.pop()
            try:
                fault = (await ask(parts.hostname or "", parts.port or 0, request.data)).fault(
                    request
                )
            except asyncio.TimeoutError:
                fault = "no end"
            if fault:
                faults.append(f"{request.name}: {fault}")

    await asyncio.gather(*(client() for _ in range(NUM_AT_ONCE)))
    return faults


def test_hostile_requests_are_refused_and_cost_nobody_else_anything(tmp_path: Path) -> None:
    with serving(tmp_path, *SMALL) as served:
        before = served.post("/v1/completions", GREEDY).json()["choices"]
        (engine,) = served.children()
        requests = hostile_requests(512)
        assert len(requests) >= 200
        assert len({request.name for request in requests}) == len(requests)
        faults = asyncio.run(all_answers(served.url, requests))
        assert not faults, "\n".join(faults)
        assert served.post("/v1/completions", GREEDY).json()["choices"] == before
        assert served.children() == [engine]
        served.wait_until_idle()
        entries = served.log_entries()
        assert {e["status"] for e in entries if e.get("status", 0) >= 500} <= {503}
        assert not [e for e in entries if "traceback" in e]
        log = served.log.read_text()
        assert "Traceback" not in log
        assert all(line.startswith("{") for line in log.splitlines())
        assert "\x1b" not in log


def test_a_bad_answer_to_a_hostile_request_is_told() -> None:
    request = Hostile("x", b"", frozenset({400}))
    error = {"message": "m", "type": "t", "param": None, "code": None}
    good = json.dumps({"error": error}).encode()
    assert Answer(400, b"", good).fault(request) == ""
    for answer in (
        Answer(0, b"", b""),
        Answer(500, b"", good),
        Answer(503, b"", good),
        Answer(200, b"", b"{}"),
        Answer(400, b"", b"Bad Request"),
        Answer(400, b"", b'{"detail": "x"}'),
        Answer(400, b"", json.dumps({"error": {"message": "m"}}).encode()),
        Answer(400, b"", good.replace(b'"m"', b'"<f object at 0x7f>"')),
        Answer(400, b"", good.replace(b'"m"', b'"Traceback (most recent"')),
    ):
        assert answer.fault(request), answer
    assert Answer(503, b"x\r\nRetry-After: 1\r\n", good).fault(request) == ""
    assert Answer(0, b"", b"").fault(Hostile("x", b"", may_be_closed=True)) == ""
