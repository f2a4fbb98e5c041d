"""One OpenTelemetry span a request, if the package is there and the environment says where to.

A span has what the log has: sizes and times, never content.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# Fields of the log, by their names in OpenTelemetry's conventions where these have one.
_NAMES: Final = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
}
_NS: Final = 1_000_000_000
CLOSE_S: Final = 1.0

_logger = logging.getLogger(__name__)


class Tracing:
    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("rocmforge")

    @classmethod
    def from_environment(cls) -> Tracing | None:
        """None where nothing is to be traced, or the package is missing, which is logged."""
        if not any(os.environ.get(name) for name in _ENDPOINTS):
            return None
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            _logger.warning("spans are asked for but need: pip install rocmforge[otel]")
            return None
        name = os.environ.get("OTEL_SERVICE_NAME", "rocmforge")
        provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False
        )
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def record(
        self, headers: Iterable[tuple[bytes, bytes]], fields: Mapping[str, Any], duration_s: float
    ) -> None:
        """A span that ends now. It belongs to the trace that a traceparent header names."""
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in (b"traceparent", b"tracestate")
        }
        ended_at = time.time_ns()
        span = self._tracer.start_span(
            f"{fields['method']} {fields['route']}",
            context=TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            start_time=ended_at - int(duration_s * _NS),
            attributes={
                _NAMES.get(name, f"rocmforge.{name}"): value for name, value in fields.items()
            },
        )
        if fields["status"] >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_at)

    def close(self) -> None:
        """Sends what is left, for a second at most: a collector that is away keeps nobody."""
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(CLOSE_S)
