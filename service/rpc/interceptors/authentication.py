"""Authentication: all gRPC services except health require a key."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc

from catalog.errors import NoKeyError
from service.operate.logs import log
from service.rpc.call import REQUEST_ID, MethodHandler, read_request_id, select_text_metadata
from service.rpc.status import build_status, get_code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.operate.metrics import Metrics
    from service.rpc.interceptors.keys import Keys

OPEN_SERVICE = "/grpc.health.v1.Health/"
"""Prefix of the methods that need no key, because load balancers and probes cannot send one."""

MAX_LOGGED_METHOD = 100
"""Maximum number of characters of a method name in the log. Callers can send any name."""


class RequireKey(grpc.aio.ServerInterceptor):
    """Refuses calls without a known key, even if the method does not exist.

    The message of a refused call is not read.
    """

    def __init__(self, keys: Keys, metrics: Metrics) -> None:
        self._keys = keys
        self._metrics = metrics

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return the handler of a call, or a handler that refuses the call."""
        method = handler_call_details.method
        if method.startswith(OPEN_SERVICE):
            return await continuation(handler_call_details)
        metadata = select_text_metadata(handler_call_details.invocation_metadata)
        try:
            caller = self._keys.find_caller(metadata)
        except NoKeyError as error:
            request_id = read_request_id(metadata)
            self._metrics.count_unauthenticated()
            code = get_code(error).name
            log.info("call", method=method[:MAX_LOGGED_METHOD], request_id=request_id, code=code)
            return _refuse_with(build_status(error, ((REQUEST_ID, request_id),)))
        handler = await continuation(handler_call_details)
        return replace(handler, caller=caller) if isinstance(handler, MethodHandler) else handler


def _refuse_with(status: grpc.Status) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler that refuses a call of any method with this status.

    It is a streaming handler, because gRPC starts streaming handlers before it reads a message.
    """

    async def refuse(_requests: Any, context: Any) -> None:
        await context.abort_with_status(status)

    return grpc.stream_stream_rpc_method_handler(refuse)
