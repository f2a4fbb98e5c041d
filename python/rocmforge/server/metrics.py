"""What /metrics tells, in Prometheus' text format."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rocmforge.engine.messages import Finished, Heartbeat
from rocmforge.engine.request import FinishReason
from rocmforge.engine.supervisor import EngineSupervisor
from rocmforge.model.host import resident_bytes

_TTFT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ITL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counters of this server; the engine's are added when they are read."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "rocmforge_http_requests",
            "Answered requests.",
            ["route", "status"],
            registry=self.registry,
        )
        self.finished = Counter(
            "rocmforge_requests_finished",
            "Requests to the engine that have ended, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.ttft = Histogram(
            "rocmforge_time_to_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets=_TTFT_BUCKETS,
            registry=self.registry,
        )
        self.itl = Histogram(
            "rocmforge_inter_token_latency_seconds",
            "Between two tokens of a request.",
            buckets=_ITL_BUCKETS,
            registry=self.registry,
        )

        for reason in get_args(FinishReason):
            self.finished.labels(reason)

    def note_end(self, finished: Finished) -> None:
        self.finished.labels(finished.reason).inc()

    def watch(self, engine: EngineSupervisor) -> None:
        """Adds the figures of an engine."""
        self.registry.register(_EngineCollector(engine))


class _EngineCollector(Collector):
    def __init__(self, engine: EngineSupervisor) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """On the server's event loop."""
        engine = self._engine
        yield _gauge("engine_up", "Whether the engine takes requests.", float(engine.is_ready))
        yield _counter("engine_restarts", "Engine processes replaced.", engine.num_restarts)
        beats = engine.num_heartbeats
        yield _counter(
            "engine_heartbeats", "Accounts of the engine; figures are the last one's.", beats
        )
        model = engine.model
        num_on_cpu = model.num_fallbacks if model is not None else 0
        yield _counter("cpu_fallback_ops", "Parts of the model on the CPU unasked.", num_on_cpu)
        memory = GaugeMetricFamily("rocmforge_resident_bytes", "Memory in use.", labels=["process"])
        memory.add_metric(["server"], resident_bytes())
        if engine.heartbeat is not None:
            memory.add_metric(["engine"], engine.heartbeat.rss_bytes)
            yield from _engine_metrics(engine.heartbeat)
        yield memory
        num_tasks = len(asyncio.all_tasks())
        yield _gauge("server_tasks", "Tasks of the server's event loop.", num_tasks)
        num_open = sum(1 for _ in Path("/proc/self/fd").iterdir())
        yield _gauge("server_descriptors", "Files and sockets that the server has open.", num_open)


def _engine_metrics(beat: Heartbeat) -> Iterator[Metric]:
    stats, cache = beat.stats, beat.stats.cache
    yield _gauge("requests_running", "Requests that run.", stats.num_running)
    yield _gauge("requests_waiting", "Requests in the queue.", stats.num_waiting)
    yield _gauge("kv_blocks", "Blocks of the KV cache.", cache.num_blocks)
    yield _gauge("kv_blocks_free", "Blocks no request uses.", cache.num_free)
    yield _gauge("kv_blocks_cached", "Blocks with content to be found again.", cache.num_cached)
    yield _counter("prompt_tokens", "Prompt tokens of started requests.", stats.num_prompt_tokens)
    yield _counter("prefix_hit_tokens", "Prompt tokens found in the cache.", cache.num_hit_tokens)
    yield _gauge(
        "prefix_hit_ratio",
        "Share of prompt tokens found in the cache.",
        cache.num_hit_tokens / max(1, stats.num_prompt_tokens),
    )
    yield _counter("output_tokens", "Tokens drawn.", stats.num_output_tokens)
    yield _counter("steps", "Steps of the engine.", stats.num_steps)
    yield _counter("busy_seconds", "Time spent in steps.", stats.busy_s)
    yield _counter("steps_replayed", "Steps that a GPU replayed from a record.", stats.num_replays)
    problem = GaugeMetricFamily(
        "rocmforge_step_recording_problem",
        "1, with the reason, where a GPU records its steps no more.",
        labels=["reason"],
    )
    if stats.recording_problem is not None:
        problem.add_metric([stats.recording_problem], 1)
    yield problem
    yield _counter("preemptions", "Requests put back for want of blocks.", stats.num_preemptions)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"rocmforge_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"rocmforge_{name}", text, value=value)
