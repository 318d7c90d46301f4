"""Log calls."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from catalog.errors import NextsongError
from nextsong.v1 import recommender_pb2 as pb
from service.operate.logs import log
from service.rpc.status import is_for_callers

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from service.rpc.call import Call, Handler

_logger = logging.getLogger("nextsong.service")


async def log_call(call: Call, proceed: Handler) -> Message:
    """Write one log line about the call, and a traceback if the service caused a failure."""
    response = None
    try:
        response = await proceed(call)
        return response
    finally:
        elapsed_ns = call.elapsed_ns
        fields = _describe(call, response)
        if call.code == "INTERNAL":
            log.error("call failed", **fields, exc_info=call.error)
        level = logging.WARNING if "reason" in fields else logging.INFO
        if _logger.isEnabledFor(level):
            ms = round(elapsed_ns / 1e6, 3)
            log.log(level, "call", **fields, code=call.code, ms=ms, **_summarise(call.request))


def _describe(call: Call, response: Message | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"method": call.method, "request_id": call.request_id}
    if call.caller:
        fields["caller"] = call.caller
    if isinstance(response, pb.RecommendResponse):
        fields["strategy"] = pb.Strategy.Name(response.strategy)
    error = call.error
    if error and not (isinstance(error, NextsongError) and is_for_callers(error)):
        fields["reason"] = f"{type(error).__name__}: {error}"
    return fields


def _summarise(request: Message | None) -> dict[str, Any]:
    """Return log fields for a request: its size and, if the log level is debug, its content."""
    summary: dict[str, Any] = {}
    if isinstance(request, pb.RecommendRequest):
        summary = {"seeds": len(request.seeds), "limit": request.limit}
    elif isinstance(request, pb.BatchRecommendRequest):
        summary = {"playlists": len(request.requests)}
    if request is not None and _logger.isEnabledFor(logging.DEBUG):
        summary["request"] = json_format.MessageToDict(request, preserving_proto_field_name=True)
    return summary
