"""The endpoints of ROCmForge's own, and what operators ask for."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import Served, events_of, wait_for

from rocmforge.model.loader import embedded_model
from rocmforge.tokenizer import Tokenizer

BODY = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0.0}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_gguf(embedded_model())


def test_generate_answers_with_text_and_ids(server: Served, tokenizer: Tokenizer) -> None:
    got = server.post("/v1/generate", BODY).json()
    assert set(got) == {"request_id", "text", "tokens", "finished", "finish_reason"}
    assert len(got["tokens"]) == 12
    prompt = tokenizer.encode(BODY["prompt"], add_special=True)  # type: ignore[arg-type]
    assert tokenizer.decode([*prompt, *got["tokens"]]) == BODY["prompt"] + got["text"]  # type: ignore[operator]
    assert got["finished"] is True
    assert got["finish_reason"] == "length"


def test_a_generate_stream_is_the_whole_answer_token_by_token(server: Served) -> None:
    whole = server.post("/v1/generate", BODY).json()
    for path, body in (("/v1/generate/stream", BODY), ("/v1/generate", {**BODY, "stream": True})):
        response = server.post(path, body)
        assert response.headers["content-type"].startswith("text/event-stream")
        events: list[Any] = events_of(response.text)
        assert all(
            set(e) == {"request_id", "token", "text", "finished", "finish_reason"} for e in events
        )
        assert {e["request_id"] for e in events} == {response.headers["x-request-id"]}
        assert [e["token"] for e in events] == whole["tokens"]
        assert "".join(e["text"] for e in events) == whole["text"]
        assert [e["finished"] for e in events] == [False] * 11 + [True]
        assert events[-1]["finish_reason"] == "length"


def test_tokenize_and_detokenize_are_the_models(server: Served, tokenizer: Tokenizer) -> None:
    text = "Once upon a time, été 😀"
    got = server.post("/tokenize", {"text": text}).json()
    assert got["token_ids"] == tokenizer.encode(text)
    assert len(got["tokens"]) == len(got["token_ids"])
    back = server.post("/detokenize", {"tokens": got["token_ids"]}).json()
    assert back == {"text": text}
    marked = server.post("/tokenize", {"text": "a", "add_special": True}).json()
    assert marked["token_ids"] == tokenizer.encode("a", add_special=True)


def test_status_and_placement_tell_what_is(server: Served) -> None:
    server.wait_until_idle()
    assert server.get("/v1/status").json() == {
        "status": "ready",
        "model_loaded": True,
        "pending_requests": 0,
        "cache_utilization": 0.0,
    }
    told = server.get("/v1/placement").json()
    parts = [row["part"] for row in told["placement"]]
    assert parts == ["embedding", *(f"layer {i}" for i in range(12)), "output", "sampling"]
    assert {row["device"] for row in told["placement"]} == {"cpu"}
    assert all(row["reason"] for row in told["placement"])
    assert (told["fallbacks"], told["recording_problem"]) == (15, "")


def test_metrics_count_what_was_done(server: Served) -> None:
    names = ["output_tokens", "steps", "requests_finished", "time_to_first_token_seconds_count"]
    full = [f"rocmforge_{n}" if n.endswith("count") else f"rocmforge_{n}_total" for n in names]
    before = [server.metric(name) for name in full]
    server.post("/v1/generate", BODY)
    wait_for(lambda: server.metric(full[0]) >= before[0] + 12)
    assert [server.metric(name) for name in full[2:]] == [value + 1 for value in before[2:]]
    families = {f.name: f for f in text_string_to_metric_families(server.get("/metrics").text)}
    for name in (
        *("http_requests", "requests_running", "requests_waiting", "kv_blocks", "prefix_hit_ratio"),
        *("inter_token_latency_seconds", "preemptions", "cpu_fallback_ops", "resident_bytes"),
        "steps_replayed",
    ):
        assert families[f"rocmforge_{name}"].samples, name
    assert server.metric("rocmforge_cpu_fallback_ops_total") == 15
    assert server.metric("rocmforge_engine_up") == 1


def test_health_and_readiness_tell_no_details(server: Served) -> None:
    for path in ("/health", "/ready"):
        response = server.get(path)
        assert response.status_code == 200
        assert response.json() == {"status": "ok"}


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
ANSWERS = {
    "hermes": r'Well\.<tool_call>\{"name": "weather", "arguments": \{"x": [0-9]\}\}</tool_call>',
    "mistral": r'Well\.\[TOOL_CALLS\]\[\{"name": "weather", "arguments": \{"x": [0-9]\}\}\]',
    "llama": r'\{"name": "weather", "parameters": \{"x": [0-9]\}\}',
}


@pytest.mark.parametrize("form", ANSWERS)
def test_a_call_the_model_makes_is_the_same_streamed_and_whole(server: Served, form: str) -> None:
    body = {
        "messages": [{"role": "user", "content": "How is the weather?"}],
        "tools": TOOLS,
        "regex": ANSWERS[form],
        "seed": 1,
    }
    whole = server.post("/v1/chat/completions", body).json()["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    (call,) = whole["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert whole["message"]["content"] == (None if form == "llama" else "Well.")
    text = server.post("/v1/chat/completions", {**body, "stream": True}).text
    choices = [event["choices"][0] for event in events_of(text)[:-1]]
    deltas = [choice["delta"] for choice in choices]
    (streamed,) = [c for delta in deltas for c in delta.get("tool_calls", [])]
    assert streamed["function"] == call["function"]
    assert streamed["index"] == 0
    content = "".join(delta.get("content", "") for delta in deltas)
    assert content == (whole["message"]["content"] or "")
    assert choices[-1]["finish_reason"] == "tool_calls"
    without = server.post("/v1/chat/completions", {**body, "tool_choice": "none"}).json()
    assert "tool_calls" not in without["choices"][0]["message"]
    assert "weather" in without["choices"][0]["message"]["content"]
