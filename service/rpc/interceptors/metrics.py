"""Count calls, and measure their durations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.errors import EngineError, TooLateError, UnavailableError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from service.operate.metrics import Metrics
    from service.rpc.call import Call, Handler


class MeasureCalls:
    """Records each RPC in `Metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def __call__(self, call: Call, proceed: Handler) -> Message:
        """Answer the call, and record its outcome and duration."""
        self._metrics.begin_call()
        try:
            response = await proceed(call)
        finally:
            seconds = call.elapsed_ns / 1e9
            self._metrics.end_call(call.method, call.code, seconds, call.timings)
            if _is_engine_failure(call.error):
                self._metrics.count_engine_error()
        self._metrics.count_answers(response)
        return response


def _is_engine_failure(error: Exception | None) -> bool:
    return isinstance(error, EngineError | UnavailableError) and not isinstance(error, TooLateError)
