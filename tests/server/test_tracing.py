"""Spans: one a request, with sizes and times and without content; none where nobody asked."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from rocmforge.engine.config import EngineConfig
from rocmforge.engine.supervisor import EngineSupervisor
from rocmforge.model.loader import embedded_model
from rocmforge.server.app import create_app
from rocmforge.server.keys import ApiKeys
from rocmforge.server.metrics import Metrics
from rocmforge.server.settings import ServerSettings
from rocmforge.server.state import ServerState
from rocmforge.server.tracing import Tracing
from rocmforge.tokenizer import Tokenizer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WORD = "xylophone"


def test_without_an_endpoint_nothing_is_traced_or_imported() -> None:
    code = (
        "import sys; from rocmforge.server.tracing import Tracing\n"
        "assert Tracing.from_environment() is None\n"
        "assert not any(name.startswith('opentelemetry.sdk') for name in sys.modules)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=kept)


def test_a_missing_package_is_logged_and_the_server_goes_on_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with caplog.at_level(logging.WARNING):
        assert Tracing.from_environment() is None
    assert "rocmforge[otel]" in caplog.text


async def answers_of(tracing: Tracing) -> tuple[list[httpx.Response], list[float]]:
    """Of a completion, a stream and a refusal, and how long each took."""
    config = EngineConfig(max_model_len=256, memory_fraction=0.05, threads=1, max_num_seqs=1)
    engine = EngineSupervisor(None, config)
    await engine.start()
    settings = ServerSettings.load()
    tokenizer = Tokenizer.from_gguf(embedded_model())
    state = ServerState(settings, ApiKeys([]), Metrics(), engine, tokenizer, tracing)
    transport = httpx.ASGITransport(create_app(state))
    responses, durations = [], []
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "label"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        body: dict[str, Any] = {"prompt": f"The {WORD} ", "max_tokens": 5, "ignore_eos": True}
        for changes in ({}, {"stream": True}, {"n": 0}):
            started_at = time.monotonic()
            responses.append(
                await client.post("/v1/completions", json={**body, **changes}, headers=headers)
            )
            durations.append(time.monotonic() - started_at)
    await engine.close()
    return responses, durations


def test_a_request_is_one_span_with_its_times_and_sizes_and_no_content() -> None:
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    exporter = memory.InMemorySpanExporter()
    provider = trace.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    responses, durations = asyncio.run(answers_of(tracing))
    spans = exporter.get_finished_spans()
    assert [response.status_code for response in responses] == [200, 200, 400]
    assert [span.name for span in spans] == ["POST /v1/completions"] * 3
    for span, response, duration in zip(spans, responses, durations, strict=True):
        assert span.attributes["rocmforge.request_id"] == response.headers["x-request-id"]
        assert span.attributes["rocmforge.client_request_id"] == "label"
        assert span.attributes["http.response.status_code"] == response.status_code
        assert f"{span.context.trace_id:032x}" == TRACE
        assert f"{span.parent.span_id:016x}" == PARENT
        assert 0 < (span.end_time - span.start_time) / 1e9 <= duration
        assert WORD not in span.to_json()
    for span in spans[:2]:
        assert span.attributes["gen_ai.usage.output_tokens"] == 5
        assert span.attributes["gen_ai.usage.input_tokens"] > 1
        times = [span.attributes[f"rocmforge.{name}_s"] for name in ("queue", "prefill", "decode")]
        assert all(seconds >= 0 for seconds in times)
        assert times[1] > 0
        assert times[2] > 0
        assert sum(times) <= (span.end_time - span.start_time) / 1e9
    assert "rocmforge.queue_s" not in spans[2].attributes


def test_a_collector_that_is_away_keeps_nobody() -> None:
    class Stuck:
        def get_tracer(self, name: str) -> None:
            pass

        def shutdown(self) -> None:
            time.sleep(30)

    started_at = time.monotonic()
    Tracing(Stuck()).close()  # type: ignore[arg-type]
    assert time.monotonic() - started_at < 5


def test_spans_go_to_the_endpoint_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    bodies: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            bodies.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        tracing = Tracing.from_environment()
        assert tracing is not None
        tracing.record([], {"method": "GET", "route": "/health", "status": 200}, 0.25)
        tracing.close()
        server.shutdown()
    ((path, body),) = bodies
    assert path == "/v1/traces"
    assert b"GET /health" in body
    assert b"rocmforge" in body
