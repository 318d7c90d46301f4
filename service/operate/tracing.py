"""OpenTelemetry traces: a span for each call and for each stage, sent to a collector."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from catalog.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.operate.timing import Timings

MAX_EXPORT_S = 2.0
"""Maximum number of seconds to send a batch of spans, including the last one before a stop."""


class Tracer:
    """Sends spans to an OpenTelemetry collector at `endpoint`, in batches, from a thread.

    If the metadata of a call has a `traceparent` (W3C Trace Context), the span of the call
    continues the trace of the caller. `exporter` replaces the exporter to `endpoint`. Raises
    `MissingExtraError` if the libraries are not installed.
    """

    def __init__(self, endpoint: str, *, exporter: Any = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise MissingExtraError("OpenTelemetry traces", "tracing") from error
        resource = Resource.create(
            {"service.name": "nextsong", "service.version": version("nextsong")}
        )
        self._provider = TracerProvider(resource=resource)
        insecure = not endpoint.startswith("https://")
        exporter = exporter or OTLPSpanExporter(
            endpoint=endpoint, insecure=insecure, timeout=MAX_EXPORT_S
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("nextsong.service")
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace

    def record(
        self, method: str, metadata: Mapping[str, str], code: str, begin_ns: int, timings: Timings
    ) -> None:
        """Record a span for a call that ends now, and a span for each of its stages.

        `metadata` is that of the call, `code` is the gRPC status code, and `begin_ns` is the time
        of `time.perf_counter_ns` at which the call began.
        """
        offset = time.time_ns() - time.perf_counter_ns()
        trace = self._trace
        call = self._tracer.start_span(
            f"nextsong.v1.Recommender/{method}",
            context=self._propagator.extract(metadata),
            kind=trace.SpanKind.SERVER,
            start_time=begin_ns + offset,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": "nextsong.v1.Recommender",
                "rpc.method": method,
                "rpc.grpc.status_code_name": code,
            },
        )
        inside = trace.set_span_in_context(call)
        for name, begin, end in timings.spans:
            stage = self._tracer.start_span(name, context=inside, start_time=begin + offset)
            stage.end(end + offset)
        if code in {"INTERNAL", "UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED"}:
            call.set_status(trace.StatusCode.ERROR, code)
        call.end()

    def close(self) -> None:
        """Send the remaining spans."""
        self._provider.shutdown()
