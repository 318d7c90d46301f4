"""Authentication: every method but health wants a key, before anything else is done with a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from catalog.errors import NoKeyError
from service.operate.logs import log
from service.rpc.calls import REQUEST_ID, caller_of_call, metadata_of, request_id_of
from service.rpc.errors import code_of, status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.operate.metrics import Metrics
    from service.rpc.keys import Keys

OPEN = "/grpc.health.v1.Health/"
"""How the methods begin that want no key: load balancers and probes ask them and have none."""

LONGEST_METHOD = 100
"""Characters of a method in the log: callers may name any."""


class RequireKey(grpc.aio.ServerInterceptor):
    """Refuses calls without a known key: their message is neither read nor parsed nor counted.

    This goes for methods that there are not, too.
    """

    def __init__(self, keys: Keys, metrics: Metrics) -> None:
        self._keys = keys
        self._metrics = metrics

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The handler of a call, or one that refuses it."""
        method = handler_call_details.method
        if method.startswith(OPEN):
            return await continuation(handler_call_details)
        metadata = metadata_of(handler_call_details.invocation_metadata)
        try:
            caller_of_call.set(self._keys.caller(metadata))
        except NoKeyError as error:
            request_id = request_id_of(metadata)
            self._metrics.unauthenticated()
            code = code_of(error).name
            log.info("call", method=method[:LONGEST_METHOD], request_id=request_id, code=code)
            return _refusing(status_of(error, ((REQUEST_ID, request_id),)))
        return await continuation(handler_call_details)


def _refusing(status: grpc.Status) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler for any method: as one of streams, it need not wait for a message."""

    async def refuse(_requests: Any, context: Any) -> None:
        await context.abort_with_status(status)

    return grpc.stream_stream_rpc_method_handler(refuse)
