"""Trace calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from service.operate.tracing import Tracer
    from service.rpc.call import Call, Handler


class TraceCalls:
    """Records a span for each call and for each of its stages."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def __call__(self, call: Call, proceed: Handler) -> Message:
        """Answer the call, and record its spans."""
        try:
            return await proceed(call)
        finally:
            self._tracer.record(call.method, call.metadata, call.code, call.begin_ns, call.timings)
