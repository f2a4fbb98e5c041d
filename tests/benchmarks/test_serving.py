"""The load test tells what was streamed and when, and of nothing else."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import SMALL, Served, serving

import server_overhead
from rocmforge import LLM
from rocmforge.model.loader import embedded_model
from serving.load import Load, measure, summary
from serving.servers import Server, llama_server, rocmforge_server
from serving.streams import Stream, StreamError, note_completion, stream_of

LOAD = Load(concurrency=3, requests=5, prefix_tokens=20, max_tokens=12, seed=1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("load"), *SMALL, "--max-num-seqs", "2") as served:
        yield served


def address(served: Served) -> tuple[str, int]:
    host, _, port = served.url.removeprefix("http://").rpartition(":")
    return host, int(port)


def test_all_tokens_of_all_requests_are_counted(served: Served) -> None:
    row = asyncio.run(measure(address(served), LOAD, pids=[served.process.pid]))
    assert (row["concurrency"], row["requests"], row["tokens"]) == (3, 5, 60)
    assert row["tokens_per_s"] == pytest.approx(60 / row["wall_s"])
    assert 0 < row["itl_p50_s"] <= row["itl_p99_s"] < row["wall_s"]
    assert 0 < row["ttft_p50_s"] <= row["ttft_p99_s"] < row["wall_s"]
    assert row["server_cpu_s_per_token"] < 1


def test_a_stream_has_the_text_that_an_answer_in_one_piece_has(served: Served) -> None:
    body = LOAD.bodies()[0]
    stream = stream_of(asyncio.run(note_completion(address(served), body)))
    options = {"stream": None, "stream_options": None}
    whole = served.post("/v1/completions", {**body, **options}).json()
    assert stream.text == whole["choices"][0]["text"]
    assert stream.num_tokens == LOAD.max_tokens
    assert stream.events_at == sorted(stream.events_at)
    assert 1 < len(stream.events_at) <= LOAD.max_tokens


def test_an_answer_that_is_no_stream_ends_the_measurement(served: Served) -> None:
    async def refused() -> None:
        stream_of(await note_completion(address(served), {"prompt": "x", "top_k": "many"}))

    with pytest.raises(StreamError, match="top_k"):
        asyncio.run(refused())


def test_prompts_share_a_prefix_that_is_drawn_from_the_seed() -> None:
    prompts = [body["prompt"] for body in LOAD.bodies()]
    assert len(prompts) == 5
    assert len({tuple(prompt[:20]) for prompt in prompts}) == 1
    assert len({tuple(prompt) for prompt in prompts}) == 5
    assert prompts == [body["prompt"] for body in LOAD.bodies()]
    others = Load(3, 5, 20, 12, seed=2).bodies()
    assert others[0]["prompt"][:20] != prompts[0][:20]
    assert len(Load(7, 5, 20, 12, seed=1).bodies()) == 7


def test_latencies_are_those_between_events() -> None:
    row = summary([Stream([0.5, 0.6, 0.8], 3), Stream([0.1, 0.2], 3)], wall_s=2)
    assert row["tokens_per_s"] == 3
    assert (row["ttft_p50_s"], row["ttft_p99_s"]) == (0.5, 0.5)
    assert row["itl_p50_s"] == pytest.approx(0.1)
    assert row["itl_p99_s"] == pytest.approx(0.2)


def test_a_server_is_a_process_of_its_own_with_its_engine_beside_it(tmp_path: Path) -> None:
    with rocmforge_server(embedded_model(), threads=1, ctx=64, log=tmp_path / "log") as server:
        assert len(server.pids) == 2
        row = asyncio.run(measure(server.address, Load(1, 1, 4, 4, 0), pids=server.pids))
        assert row["tokens"] == 4
    assert not Path(f"/proc/{server.pids[0]}").exists()


def test_a_peer_that_does_not_start_is_told_of_with_what_it_said(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint('no', sys.argv[2])\n")
    program.chmod(0o700)
    with (
        pytest.raises(OSError, match=r"no m\.gguf"),
        llama_server(program, Path("m.gguf"), 1, 64, 2, tmp_path / "log"),
    ):
        pass


def test_a_peer_serves_once_it_is_healthy(tmp_path: Path) -> None:
    """Slots share out the context as llama-server's do."""
    program = tmp_path / "llama-server"
    told = tmp_path / "arguments"
    program.write_text(
        f"#!{sys.executable}\n"
        "import http.server, json, sys\n"
        f"open({str(told)!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200 if self.path == '/health' else 404)\n"
        "        self.end_headers()\n"
        "port = int(sys.argv[sys.argv.index('--port') + 1])\n"
        "http.server.HTTPServer(('127.0.0.1', port), Handler).serve_forever()\n"
    )
    program.chmod(0o700)
    with llama_server(program, Path("m.gguf"), 2, 64, 4, tmp_path / "log") as server:
        assert server.pids
    arguments = json.loads(told.read_text())
    assert arguments[arguments.index("--ctx-size") + 1] == "256"
    assert arguments[arguments.index("--parallel") + 1] == "4"


def test_the_overhead_is_that_of_each_pair_of_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"in process": [100.0, 200.0, 50.0], "over HTTP": [90.0, 190.0, 55.0]}
    turns: list[str] = []

    def turn(kind: str) -> float:
        turns.append(kind)
        return rates[kind][turns.count(kind) - 2]  # the first of each kind warms up

    monkeypatch.setattr(server_overhead, "generated", lambda *_: turn("in process"))
    monkeypatch.setattr(server_overhead, "streamed", lambda *_: {"tokens_per_s": turn("over HTTP")})
    monkeypatch.setattr(server_overhead, "SETTLING_S", 0)
    monkeypatch.setattr(server_overhead, "busy_cores", lambda: 0.0)
    options = argparse.Namespace(streams=2, repetitions=3, max_tokens=4)
    report = server_overhead.compare(None, None, options)  # type: ignore[arg-type]
    assert report["overheads"] == pytest.approx([0.1, 0.05, -0.1])
    assert report["overhead"] == pytest.approx(0.05)
    assert turns[2:4] != turns[4:6]  # who goes first alternates


def test_the_same_texts_are_generated_in_process_and_over_http(served: Served) -> None:
    server = Server("rocmforge", address(served), [served.process.pid])
    texts = server_overhead.prompts(2, 0)
    assert len(set(texts + server_overhead.prompts(2, 1))) == 4
    row = server_overhead.streamed(server, texts, 6)
    assert (row["requests"], row["tokens"]) == (2, 12)
    assert 0 <= row["http_process_cpu_s_per_token"] < 1
    with LLM(threads=1, max_model_len=64, memory_fraction=0.05) as llm:
        assert server_overhead.generated(llm, texts, 6) > 0
